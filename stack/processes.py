"""Long-running processes that outlive the command that started them, and are stopped without hitting anyone else's.

Each one is the leader of a session of its own. Its record says which process that was: the number together with the
moment the process began, because numbers are given out again. Whatever belongs to it (the same session, or a
descendant in a session of its own, such as a job) is stopped with it, and each is checked again just before a signal.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

POLL_S = 0.05
PRIVATE = 0o077  # umask: files, and the sockets that the store makes in /tmp, are their user's alone
LOG_KEPT_BYTES = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Record:
    """One started process, as written to <run folder>/<name>.json."""

    name: str
    pid: int
    birth: str  # tells two processes with the same number apart, also across a reboot
    log: str
    log_offset: int  # bytes the log held before this start
    started_at: float  # epoch seconds
    cwd: str


def birth(pid: int) -> str | None:
    """When the process began, in a form that no later process with its number shares; None if it has ended."""
    if sys.platform != "linux":
        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else f":{process.create_time()}"
        except psutil.Error:
            return None
    # Kernel ticks since boot: unlike a time of day, they stand still when the clock is set.
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, start_ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{_boot_id()}:{start_ticks}"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start(
    name: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    log: Path,
    run: Path,
) -> Record:
    """Starts the command detached from this terminal, output to the end of `log`, and records it in `run`."""
    run.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_KEPT_BYTES:
        log.replace(log.with_suffix(log.suffix + ".1"))
    with log.open("ab") as output, interrupt_held_back():
        offset = output.tell()
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=PRIVATE,
        )
        record = Record(
            name=name,
            pid=process.pid,
            birth=birth(process.pid) or "ended at once",
            log=str(log),
            log_offset=offset,
            started_at=time.time(),
            cwd=str(cwd),
        )
        partial = run / f"{name}.json.partial"
        partial.write_text(json.dumps(asdict(record), indent=2) + "\n")
        partial.replace(run / f"{name}.json")
    # The child is not ours to wait for: it is meant to live on. Not reaping it here costs a zombie until we end.
    process.returncode = 0
    return record


@contextlib.contextmanager
def interrupt_held_back() -> Iterator[None]:
    """Ctrl-C takes effect after the block: no process may be started and not recorded."""
    pending: list[int] = []
    try:
        previous = signal.signal(signal.SIGINT, lambda number, _frame: pending.append(number))
    except ValueError:  # not the main thread: no signal arrives here
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if pending:
        raise KeyboardInterrupt


def recorded(run: Path, name: str) -> Record | None:
    """What was last started under this name, running or not."""
    try:
        return Record(**json.loads((run / f"{name}.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def all_recorded(run: Path) -> list[Record]:
    found = (recorded(run, path.stem) for path in sorted(run.glob("*.json")))
    return [record for record in found if record is not None]


def is_running(record: Record) -> bool:
    _reap(record.pid)
    return birth(record.pid) == record.birth


def stop(records: Sequence[Record], *, run: Path, patience_s: float) -> list[str]:
    """Stops the recorded processes together: SIGTERM, then SIGKILL after `patience_s`. Returns the names that ran.

    Their record files are removed. A record whose process is gone, or whose number now belongs to another process,
    only loses its file.
    """
    stopped, members = [], dict[int, str]()
    for record in records:
        belonging = _belonging_to(record)
        members |= belonging
        if belonging:
            stopped.append(record.name)
        if is_running(record):
            # Not the whole group: a leader whose children fall beside it may wait for them for ever (Airflow's
            # triggerer does). Told alone, it ends them itself.
            _signal({record.pid: record.birth}, signal.SIGTERM)
        else:
            _signal(belonging, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while _alive(members) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    for record in records:
        members |= _belonging_to(record)
    _signal(members, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while _alive(members) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    for record in records:
        (run / f"{record.name}.json").unlink(missing_ok=True)
    return stopped


def _belonging_to(record: Record) -> dict[int, str]:
    """Every live process of the record, number → birth: its session, and its descendants in sessions of their own."""
    if record.birth.partition(":")[0] != _boot() or birth(record.pid) not in (record.birth, None):
        return {}  # another boot, or another process has the number: nothing is left of ours
    leader_lives = birth(record.pid) == record.birth
    pids = {record.pid} if leader_lives else set()
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(pid) != record.pid or pid == os.getpid():
                continue
            # A leader that died can leave members behind (a killed scheduler, its tasks). That the session is still
            # ours, and not that of a later process with the same number, shows in the folder it works in.
            if leader_lives or psutil.Process(pid).cwd() == record.cwd:
                pids.add(pid)
    for pid in list(pids):
        with contextlib.suppress(psutil.Error):
            pids |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    births = {pid: birth(pid) for pid in pids}
    return {pid: began for pid, began in births.items() if began is not None}


def _boot() -> str:
    return _boot_id() if sys.platform == "linux" else ""


def _alive(members: Mapping[int, str]) -> dict[int, str]:
    for pid in members:
        _reap(pid)
    return {pid: began for pid, began in members.items() if birth(pid) == began}


def _signal(members: Mapping[int, str], number: signal.Signals) -> None:
    for pid in _alive(members):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _reap(pid: int) -> None:
    """Clears the zombie of a process that this very command started."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def log_tail(record: Record, lines: int = 15) -> str:
    """The last lines that the process wrote since it was started, indented."""
    try:
        with open(record.log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(record.log_offset, size - 20_000))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return "    (no log)"
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (it wrote nothing)"
