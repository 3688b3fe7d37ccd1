"""One script as a process group of its own: started, followed, limited, stopped whole.

The script runs under a keeper (keeper.py) that records its process id and exit code in the job's folder; what it prints
goes into a file there. So a job outlives a killed server, and the next server adopts it: it finds the process by the
id, knows it by the folder in its command line (ids are reused), and learns how it ended from the exit code file.

All that a script starts ends with it, also what leaves its group (a daemon): it stays below the keeper while that
lives, and carries the folder in its environment for when that does not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from local_sagemaker.failures import JobFailedError
from local_sagemaker.sandbox import left_file

_KEEPER = Path(__file__).with_name("keeper.py")

# In the environment of each process of a job: its process folder.
_MARK = "LOCAL_SAGEMAKER_PROCESS"

_KILL_ROUNDS = 10

#: What is read at once of what a process prints.
CHUNK_BYTES = 2**20

#: CloudWatch's bound of an event. Well below CHUNK_BYTES: a chunk of one line has lines.
MAX_LINE_BYTES = 2**18

_CUT_WITHIN_BYTES = 4096

KILLED = 137
"""Exit code of a process that ended without saying how: SIGKILL, as a shell reports it."""


class JobProcess:
    """Not thread-safe: one job thread owns it."""

    def __init__(self, folder: Path, popen: subprocess.Popen[bytes] | None, pid: int) -> None:
        self._folder = folder
        self._popen = popen
        self.pid = pid
        """Process id of the group's leader, which is also the group's id."""

    @classmethod
    def start(
        cls, command: list[str], *, environment: dict[str, str], cwd: Path, folder: Path, nice: int
    ) -> JobProcess:
        """Run `command` with this environment; `folder` keeps pid, output.log and exit_code.

        Raises JobFailedError for a command or an environment that no process can have, OSError when it cannot be
        started otherwise.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("pid", "exit_code"):
            (folder / name).unlink(missing_ok=True)
        with output_path(folder).open("ab") as output, _refusals(command, environment):
            popen = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_KEEPER), str(folder), *command],
                env=environment | {_MARK: str(folder)},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o022,  # as in a container: a model keeps its files' modes on its way to others
            )
        if nice:
            with contextlib.suppress(OSError):  # it may have ended already
                os.setpriority(os.PRIO_PGRP, popen.pid, nice)
        return cls(folder, popen, popen.pid)

    @classmethod
    def adopt(cls, folder: Path) -> JobProcess | None:
        """The process an earlier server started in this folder: still running, or ended with a recorded exit code.

        Of one that ended without, what it may have left is ended too.
        """
        try:
            pid = int((folder / "pid").read_text())
        except (OSError, ValueError):
            return None
        process = cls(folder, None, pid)
        if process.running() or (folder / "exit_code").exists():
            return process
        process.kill()
        return None

    def running(self) -> bool:
        if self._popen is not None:
            return self._popen.poll() is None
        try:
            process = psutil.Process(self.pid)
            return process.status() != psutil.STATUS_ZOMBIE and str(self._folder) in process.cmdline()
        except psutil.Error:
            return False

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, or None when it still runs after `timeout_s` seconds."""
        if self._popen is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout_s)
        elif self.running():
            with contextlib.suppress(psutil.Error):
                psutil.Process(self.pid).wait(timeout_s)
        return None if self.running() else self.exit_code()

    def exit_code(self) -> int:
        try:
            return int((self._folder / "exit_code").read_text())
        except (OSError, ValueError):
            return KILLED

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all of it now, also what the script left behind."""
        for _ in range(_KILL_ROUNDS):
            if not _kill(self._below()):
                break
        self._signal(signal.SIGKILL)
        _kill(_marked(self._folder))

    def stop(self, grace_s: float) -> int:
        """SIGTERM, at most `grace_s` seconds to obey, SIGKILL; returns the exit code."""
        self.terminate()
        deadline = time.monotonic() + grace_s
        code = None
        while code is None and time.monotonic() < deadline:
            code = self.wait(min(0.2, grace_s))
        self.kill()
        return code if code is not None else (self.wait(5.0) or KILLED)

    def _signal(self, number: signal.Signals) -> None:
        # While the leader lives its group id is ours. Once it has been reaped only a group with members keeps the id,
        # and such members are the script's own daemons.
        if self._popen is None and not self.running():
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _below(self) -> list[psutil.Process]:
        """What runs below the keeper; nothing when that has ended."""
        if not self.running():
            return []
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.Error:
            return []


def _marked(folder: Path) -> list[psutil.Process]:
    """The processes that carry the folder in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(_MARK) == str(folder):
                found.append(process)
    return found


def _kill(processes: list[psutil.Process]) -> bool:
    """Kill them; whether there was one that ran."""
    killed = False
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                process.kill()
                killed = True
    return killed


def output_path(folder: Path) -> Path:
    return folder / "output.log"


def printed_bytes(folder: Path) -> int:
    """Of its output; none where the job has put something else in the file's place."""
    try:
        found = output_path(folder).lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


class OutputTail:
    """New complete lines of a growing file, each time it is asked.

    A line longer than MAX_LINE_BYTES comes in pieces, each as soon as it is there: what is kept of a line without an
    end is bounded. They are cut where a blank or a carriage return allows it, and at the same places whenever the file
    is read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.offset = 0
        """Bytes read so far."""
        self._rest = b""

    def lines(self, *, final: bool = False) -> list[str]:
        """What has been printed since the last call, at most CHUNK_BYTES of it: who prints without end would else fill
        the memory. Ask again while there is something.

        A line without its end is held back, with `final` only until the file has been read to its end.
        """
        try:
            with open(self._path, "rb", opener=left_file.opener) as file:
                file.seek(self.offset)
                chunk = file.read(CHUNK_BYTES)
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return []
        self.offset += len(chunk)
        *complete, rest = (self._rest + chunk).split(b"\n")
        *begun, self._rest = _pieces(rest)
        found = [piece for line in complete for piece in _pieces(line)] + begun
        if final and self._rest and self.offset >= size:
            found.append(self._rest)
            self._rest = b""
        return [line.decode(errors="replace").rstrip("\r") for line in found]

    def all_lines(self, *, final: bool = False) -> Iterator[str]:
        """All that has been printed since the last call, read piece by piece."""
        while found := self.lines(final=final):
            yield from found


@contextlib.contextmanager
def _refusals(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """What the kernel does not take from anybody is the job's fault, and the same at the next attempt."""
    try:
        yield
    except ValueError as error:  # NUL somewhere, or = in a name
        raise JobFailedError(
            f"ClientError: the process cannot be started: {error} (in its command, or in its environment, of which "
            "hyperparameters are a part)"
        ) from error
    except OSError as error:
        if error.errno not in (errno.E2BIG, errno.ENAMETOOLONG):
            raise
        words = [*command, *(f"{name}={value}" for name, value in environment.items())]
        longest = max(words, key=len)
        name = longest.partition("=")[0]
        raise JobFailedError(
            "ClientError: the process cannot be started: its command and environment, of which hyperparameters are a "
            f"part, have {sum(map(len, words))} characters, and '{name:.40}' alone has {len(longest)}; the kernel "
            "takes 131071 of one, and some millions of all. Give a file in a channel instead."
        ) from error


def _pieces(line: bytes) -> Iterator[bytes]:
    while len(line) > MAX_LINE_BYTES:
        head = line[:MAX_LINE_BYTES]
        cut = max(head.rfind(b"\r", -_CUT_WITHIN_BYTES), head.rfind(b" ", -_CUT_WITHIN_BYTES)) + 1 or _character(line)
        yield line[:cut]
        line = line[cut:]
    yield line


def _character(line: bytes) -> int:
    """The last place at or before MAX_LINE_BYTES that is not within a character of UTF-8."""
    places = range(MAX_LINE_BYTES, MAX_LINE_BYTES - 4, -1)
    return next((place for place in places if line[place] & 0xC0 != 0x80), MAX_LINE_BYTES)
