"""Starting and stopping the stack. `start` may be called at any time: it adds what is missing."""

import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from stack import ports, processes, readiness, store
from stack.credentials import Credentials, load_or_create
from stack.errors import StackError
from stack.services import (
    AIRFLOW_PARTS,
    SERVER,
    STORE,
    Service,
    airflow_process_environment,
    services,
    write_airflow_password,
)
from stack.settings import Settings, ports_in_use

FREE_DISK_NEEDED_BYTES = 2 * 1024**3
READY_WITHIN_S = {STORE: 60.0, SERVER: 60.0, "Airflow": 180.0}
MIGRATION_WITHIN_S = 180.0
POLL_S = 0.25

Say = Callable[[str], None]


def credentials_of(settings: Settings) -> Credentials:
    make_state_folder(settings)
    return load_or_create(settings.state / "credentials.json")


def start(settings: Settings, say: Say) -> None:
    """Starts what does not run yet and returns when all of it is ready for work.

    On failure what this call started is stopped again, and the error carries the last log lines of the culprit.
    """
    with only_one(settings, "up", "Another `make up` or `make retrain` is starting the stack right now; wait for it."):
        require_disk(settings)
        credentials = credentials_of(settings)
        wanted = services(settings, credentials)
        missing = [service for service in wanted if not _running(settings, service.name)]
        if len(missing) < len(wanted):
            require_same_ports(settings)
        for service in missing:
            if service.ports_variable:
                ports.require_free(service.name, settings.ports()[service.ports_variable], service.ports_variable)
        settings.remember_ports()
        started: list[processes.Record] = []
        try:
            if missing:
                say(f"Starting {', '.join(service.name for service in missing)}")
            early = [service for service in missing if service.name not in AIRFLOW_PARTS]
            late = [service for service in missing if service.name in AIRFLOW_PARTS]
            started += [_start(settings, service) for service in early]
            watch = ReadinessWatch(settings, credentials, say if missing else lambda _line: None)
            if late:
                write_airflow_password(settings, credentials)
                migrate_airflow_database(settings, credentials, meanwhile=watch.look_at_early)
            started += [_start(settings, service) for service in late]
            watch.until_all_ready()
        except StackError:
            processes.stop(started, run=run_folder(settings), patience_s=8)
            if len(missing) == len(wanted):
                settings.forget_ports()
            raise


def stop(settings: Settings, say: Say) -> None:
    """Stops every process that the stack recorded, and nothing else. All data stays."""
    run = run_folder(settings)
    records = processes.all_recorded(run)
    began = time.monotonic()
    # The store goes last: the others may still be writing to it. Killing it loses nothing it acknowledged, while
    # waiting for its own goodbye can take half a minute.
    stopped = processes.stop([record for record in records if record.name != STORE], run=run, patience_s=9)
    stopped += processes.stop([record for record in records if record.name == STORE], run=run, patience_s=3)
    settings.forget_ports()
    if stopped:
        say(f"Stopped {', '.join(stopped)} in {time.monotonic() - began:.1f} s. The data stays in {settings.state}")
    else:
        say("Nothing of this checkout's stack is running.")


def status(settings: Settings, say: Say) -> bool:
    """Tells what runs; True when all of it does."""
    complete = True
    for name in (STORE, SERVER, *AIRFLOW_PARTS):
        record = processes.recorded(run_folder(settings), name)
        running = record is not None and processes.is_running(record)
        complete = complete and running
        say(f"  {name:<16} {f'running, process {record.pid}' if record and running else 'not running'}")
    return complete


def is_up(settings: Settings) -> bool:
    return all(_running(settings, name) for name in (STORE, SERVER, *AIRFLOW_PARTS))


def run_folder(settings: Settings) -> Path:
    return settings.state / "run"


@contextlib.contextmanager
def only_one(settings: Settings, name: str, refusal: str) -> Iterator[None]:
    """Holds the lock `name` for the block; a second holder is refused. The kernel lets go when the holder dies."""
    make_state_folder(settings)
    path = run_folder(settings) / f"{name}.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise StackError(refusal.format(holder=file.read().strip() or "unknown")) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def make_state_folder(settings: Settings) -> None:
    # Logs, databases and images are nobody else's business on a shared machine, also those that were there before.
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(settings.state.stat().st_mode) & 0o077:
        try:
            settings.state.chmod(0o700)
        except OSError as error:
            raise StackError(
                f"Other users of this machine can read {settings.state}, which holds keys and data, and its rights "
                f"cannot be changed ({error.strerror}). Give it back to yourself (chown), then try again."
            ) from error


def require_disk(settings: Settings) -> None:
    make_state_folder(settings)
    free = shutil.disk_usage(settings.state).free
    if free < FREE_DISK_NEEDED_BYTES:
        raise StackError(
            f"The disk that holds {settings.state} has {free / 1024**3:.1f} GB left; the stack needs at least "
            f"{FREE_DISK_NEEDED_BYTES / 1024**3:.0f} GB for images, models and logs. Free some space and try again."
        )


def require_same_ports(settings: Settings) -> None:
    """Refuses to look for a running stack on ports that it does not have."""
    for field, port in ports_in_use(settings.state).items():
        if port != getattr(settings, field):
            variable = field.upper()
            raise StackError(
                f"The stack runs with {variable}={port}, not {getattr(settings, field)}. "
                f"Leave {variable} away to use it as it is, or `make down` first to move it."
            )


def migrate_airflow_database(
    settings: Settings, credentials: Credentials, *, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Makes or upgrades Airflow's database, unless this very version of Airflow did it already."""
    done = settings.airflow_home / f"database-of-airflow-{version('apache-airflow')}"
    if done.exists() and (settings.airflow_home / "airflow.db").exists():
        return
    log = settings.state / "logs" / "airflow-db-migrate.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        migration = subprocess.Popen(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=airflow_process_environment(settings, credentials),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + MIGRATION_WITHIN_S
            while migration.poll() is None and time.monotonic() < deadline:
                meanwhile()
                time.sleep(POLL_S)
        finally:
            if migration.poll() is None:
                migration.kill()
                migration.wait()
    if migration.returncode:
        tail = "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-15:])
        raise StackError(
            f"Airflow could not prepare its database {settings.airflow_home / 'airflow.db'}:\n{tail}\n  log: {log}"
        )
    done.touch()


def _running(settings: Settings, name: str) -> bool:
    record = processes.recorded(run_folder(settings), name)
    return record is not None and processes.is_running(record)


def _start(settings: Settings, service: Service) -> processes.Record:
    if service.name == STORE:
        store.prepare(settings)
    return processes.start(
        service.name,
        service.command,
        environment=service.environment,
        cwd=settings.root,
        log=settings.state / "logs" / f"{service.name}.log",
        run=run_folder(settings),
    )


class ReadinessWatch:
    """Looks at the programs in turn until each has shown that it works; says so once for each.

    A process that ends meanwhile, or a program that takes too long, is a StackError with its last log lines.
    """

    def __init__(self, settings: Settings, credentials: Credentials, say: Say) -> None:
        s3 = readiness.aws_client("s3", settings, credentials, read_timeout_s=3)
        sts = readiness.aws_client("sts", settings, credentials, read_timeout_s=3)
        self._settings, self._say = settings, say
        self._began = time.monotonic()
        self._pending: dict[str, tuple[tuple[str, ...], Callable[[], str | None], str]] = {
            STORE: ((STORE,), lambda: readiness.store_problem(s3), settings.s3_url),
            SERVER: ((SERVER,), lambda: readiness.server_problem(sts), settings.sagemaker_url),
            "Airflow": (AIRFLOW_PARTS, self._airflow_problem, settings.airflow_url),
        }

    def look_at_early(self) -> None:
        """One look at what does not need Airflow's database."""
        self._look([STORE, SERVER])

    def until_all_ready(self) -> None:
        since = time.monotonic()
        while self._pending:
            problems = self._look(list(self._pending))
            for name, problem in problems.items():
                if time.monotonic() - since > READY_WITHIN_S[name]:
                    parts = self._pending[name][0]
                    culprit = next((part for part in parts if problem.startswith(part)), parts[0])
                    raise self._failure(culprit, f"is not ready after {READY_WITHIN_S[name]:.0f} s ({problem})")
            if problems:
                time.sleep(POLL_S)

    def _look(self, names: list[str]) -> dict[str, str]:
        """What each of the named programs still lacks."""
        problems = {}
        for name in names:
            if name not in self._pending:
                continue
            parts, problem_of, url = self._pending[name]
            for part in parts:
                if not _running(self._settings, part):
                    raise self._failure(part, "ended")
            problem = problem_of()
            if problem is None:
                self._say(f"  {name:<16} ready after {time.monotonic() - self._began:4.1f} s   {url}")
                del self._pending[name]
            else:
                problems[name] = problem
        return problems

    def _airflow_problem(self) -> str | None:
        records = {part: processes.recorded(run_folder(self._settings), part) for part in AIRFLOW_PARTS}
        return readiness.airflow_problem(self._settings, {part: record for part, record in records.items() if record})

    def _failure(self, name: str, what: str) -> StackError:
        record = processes.recorded(run_folder(self._settings), name)
        if record is None:
            return StackError(f"{name} {what}: another command stopped it meanwhile.")
        return StackError(f"{name} {what}. Its last words:\n{processes.log_tail(record)}\n  whole log: {record.log}")
