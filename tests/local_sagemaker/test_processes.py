"""A job's processes: how they end is told truthfully, and none is left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local_sagemaker.sandbox.process import MAX_LINE_BYTES, JobProcess, OutputTail, output_path
from tests.local_sagemaker.harness import has_ended
from tests.waiting import PATIENCE_S, wait_until

Start = Callable[..., JobProcess]

#: Starts a daemon, whose parent has ended and which is in a group of its own; prints its id.
DAEMON = """
import subprocess
subprocess.run(["/bin/sh", "-c", "sleep 60 & echo $!"], start_new_session=True, env={environment})
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[JobProcess] = []

    def start(script: str) -> JobProcess:
        process = JobProcess.start(
            [sys.executable, "-c", script],
            environment={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
            cwd=tmp_path,
            folder=tmp_path / "process",
            nice=0,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def ended(process: JobProcess) -> int:
    code = process.wait(PATIENCE_S)
    assert code is not None
    return code


def printed(tmp_path: Path, lines: int = 1) -> list[str]:
    """What the script has printed, once it has printed so many lines."""

    def found() -> list[str]:
        return output_path(tmp_path / "process").read_text().split("\n")[:-1]

    wait_until(lambda: len(found()) >= lines, lambda: str(found()))
    return found()


@pytest.mark.parametrize(
    ("script", "code"),
    [("", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137), ("import os; os.abort()", 134)],
)
def test_exit_code_is_the_scripts(start: Start, tmp_path: Path, script: str, code: int) -> None:
    assert ended(start(script)) == code
    assert (tmp_path / "process/exit_code").read_text() == f"{code}\n"


def test_what_a_job_writes_has_a_containers_modes(start: Start, tmp_path: Path) -> None:
    """Whatever the server's own files have: a model's files keep their modes in its archive."""
    before = os.umask(0o077)
    try:
        assert ended(start("open('written', 'w')")) == 0
    finally:
        os.umask(before)
    assert (tmp_path / "written").stat().st_mode & 0o777 == 0o644


def test_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "process"
    process = JobProcess.start(["/no/such/python"], environment={}, cwd=tmp_path, folder=folder, nice=0)
    assert ended(process) == 127
    assert output_path(folder).read_text() == "/no/such/python: No such file or directory\n"


def test_script_has_the_usual_signals(tmp_path: Path) -> None:
    """The keeper is a Python program, which ignores two signals; a script must not inherit that."""
    command = ["/bin/sh", "-c", "grep SigIgn /proc/self/status"]
    ended(JobProcess.start(command, environment={}, cwd=tmp_path, folder=tmp_path / "process", nice=0))
    ignored = int(printed(tmp_path)[0].split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


def test_script_may_obey_a_stop(start: Start, tmp_path: Path) -> None:
    process = start(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(3)))\nprint('ready')\ntime.sleep(60)"
    )
    printed(tmp_path)
    assert process.stop(20) == 3
    assert printed(tmp_path, 2) == ["ready", "saved"]


def test_script_that_ignores_a_stop_is_killed(start: Start, tmp_path: Path) -> None:
    process = start("import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('ready')\ntime.sleep(60)")
    printed(tmp_path)
    assert process.stop(0.2) == 137
    assert has_ended(process.pid)


@pytest.mark.parametrize("environment", ["None", "{}"], ids=["", "without environment"])
def test_daemon_ends_with_its_script(start: Start, tmp_path: Path, environment: str) -> None:
    assert ended(start(DAEMON.replace("{environment}", environment))) == 0
    assert has_ended(int(printed(tmp_path)[0]))


@pytest.mark.parametrize("environment", ["None", "{}"], ids=["", "without environment"])
def test_daemon_ends_when_the_job_is_killed(start: Start, tmp_path: Path, environment: str) -> None:
    process = start(DAEMON.replace("{environment}", environment) + "import time; time.sleep(60)")
    daemon = int(printed(tmp_path)[0])
    assert psutil.pid_exists(daemon)
    process.kill()
    assert has_ended(daemon) and has_ended(process.pid)


def test_fork_storm_is_ended(start: Start, tmp_path: Path) -> None:
    """Children that go on forking while they are killed."""
    process = start(
        "import os, time\n"
        "for _ in range(20):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        for _ in range(200):\n"
        "            if os.fork(): os._exit(0)\n"
        "            time.sleep(0.01)\n"
        "        os._exit(0)\n"
        "print('ready'); time.sleep(60)"
    )
    printed(tmp_path)
    process.kill()
    assert has_ended(process.pid)

    def left() -> list[psutil.Process]:
        return [p for p in psutil.process_iter() if str(tmp_path / "process") in _mark(p)]

    wait_until(lambda: not left(), lambda: str(left()), every_s=0.05)


def _mark(process: psutil.Process) -> str:
    try:
        return process.environ().get("LOCAL_SAGEMAKER_PROCESS", "")
    except (psutil.Error, OSError):
        return ""


def test_running_process_is_adopted(start: Start, tmp_path: Path) -> None:
    process = start("import time; print('ready'); time.sleep(60)")
    printed(tmp_path)
    adopted = JobProcess.adopt(tmp_path / "process")
    assert adopted is not None and adopted.pid == process.pid and adopted.running()
    assert adopted.stop(0.1) == 143


def test_process_that_ended_meanwhile_is_adopted_with_its_end(start: Start, tmp_path: Path) -> None:
    ended(start("raise SystemExit(5)"))
    adopted = JobProcess.adopt(tmp_path / "process")
    assert adopted is not None and adopted.wait(0) == 5


def test_script_without_its_keeper_is_ended(start: Start, tmp_path: Path) -> None:
    """The machine ran out of memory and the kernel chose the keeper: nobody would learn how the script ends."""
    process = start("import os, time; print(os.getpid()); time.sleep(60)")
    script = int(printed(tmp_path)[0])
    os.kill(process.pid, signal.SIGKILL)
    assert ended(process) == 137
    assert JobProcess.adopt(tmp_path / "process") is None
    assert has_ended(script)


def test_reused_process_id_is_not_taken_for_the_job(tmp_path: Path) -> None:
    folder = tmp_path / "process"
    folder.mkdir()
    (folder / "pid").write_text(f"{os.getpid()}\n")
    assert JobProcess.adopt(folder) is None


def test_line_without_an_end_comes_in_the_same_pieces_however_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    line = ("word " * 60_000 + "é" * 400_000 + "\r" * 3 + "x" * 300_000).encode()
    tail, grown = OutputTail(path), []
    path.write_bytes(b"")
    for start in range(0, len(line), 77_777):
        with path.open("ab") as file:
            file.write(line[start : start + 77_777])
        grown += tail.lines()
    grown += tail.all_lines(final=True)
    at_once = list(OutputTail(path).all_lines(final=True))
    assert grown == at_once
    assert all(len(piece.encode()) <= MAX_LINE_BYTES and "\ufffd" not in piece for piece in grown)
    assert "".join(grown).replace("\r", "") == line.decode().replace("\r", "")
