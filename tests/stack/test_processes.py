import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stack import processes
from stack.processes import Record
from tests.waiting import wait_until

# Says when it is ready to take a signal, then waits for one.
SLEEPER = "import sys, time; print('ready', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "run"
    yield folder
    processes.stop(processes.all_recorded(folder), run=folder, patience_s=0)


def start(run: Path, program: str, name: str = "sleeper") -> Record:
    record = processes.start(
        name,
        [sys.executable, "-c", program],
        environment=dict(os.environ),
        cwd=run.parent,
        log=run.parent / "logs" / f"{name}.log",
        run=run,
    )
    wait_until(lambda: "ready" in processes.log_tail(record))
    return record


def test_a_started_process_leads_its_own_session_and_is_recorded(run: Path) -> None:
    record = start(run, SLEEPER)
    assert processes.is_running(record)
    assert os.getsid(record.pid) == record.pid != os.getsid(0)
    assert processes.recorded(run, "sleeper") == record


def test_what_a_started_process_writes_is_its_users_alone(run: Path) -> None:
    start(run, f"open('written', 'w'); {SLEEPER}")
    assert (run.parent / "written").stat().st_mode & 0o077 == 0


def test_stop_ends_the_process_and_forgets_it(run: Path) -> None:
    record = start(run, SLEEPER)
    assert processes.stop([record], run=run, patience_s=5) == ["sleeper"]
    assert processes.birth(record.pid) is None
    assert processes.recorded(run, "sleeper") is None


def test_stop_kills_what_ignores_sigterm_after_its_patience(run: Path) -> None:
    record = start(run, STUBBORN)
    began = time.monotonic()
    processes.stop([record], run=run, patience_s=0.5)
    assert processes.birth(record.pid) is None
    assert 0.4 < time.monotonic() - began < 4


def test_stop_reaches_a_descendant_in_a_session_of_its_own(run: Path) -> None:
    """As the server's jobs are: killing the server must not leave its trainings running."""
    child = f"[sys.executable, '-c', {STUBBORN!r}]"
    program = f"import subprocess, sys; p = subprocess.Popen({child}, start_new_session=True); print(p.pid); {STUBBORN}"
    record = start(run, program)
    wait_until(lambda: processes.log_tail(record).count("ready") == 2)
    child_pid = int(next(word for word in processes.log_tail(record).split() if word.isdigit()))
    assert os.getsid(child_pid) == child_pid
    processes.stop([record], run=run, patience_s=0.3)
    wait_until(lambda: processes.birth(child_pid) is None)


def test_stop_finds_what_a_killed_leader_left_behind(run: Path) -> None:
    program = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]); print(p.pid); {SLEEPER}"
    )
    record = start(run, program)
    wait_until(lambda: processes.log_tail(record).count("ready") == 2)
    orphan = int(next(word for word in processes.log_tail(record).split() if word.isdigit()))
    os.kill(record.pid, signal.SIGKILL)
    wait_until(lambda: not processes.is_running(record))
    assert processes.birth(orphan) is not None
    assert processes.stop([record], run=run, patience_s=3) == ["sleeper"]
    wait_until(lambda: processes.birth(orphan) is None)


def test_a_process_that_got_the_recorded_number_is_not_touched(run: Path) -> None:
    ours = start(run, SLEEPER, "other")
    foreign = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        stale = replace(ours, name="stale", pid=foreign.pid)
        (run / "stale.json").write_text(json.dumps(stale.__dict__))
        assert not processes.is_running(stale)
        assert processes.stop([stale], run=run, patience_s=0.2) == []
        assert foreign.poll() is None
        assert processes.recorded(run, "stale") is None
    finally:
        foreign.kill()
        foreign.wait()


def test_a_record_from_before_a_reboot_is_stale(run: Path) -> None:
    record = start(run, SLEEPER)
    before = replace(record, birth="some-other-boot:1")
    assert not processes.is_running(before)
    assert processes.stop([before], run=run, patience_s=0.2) == []
    assert processes.is_running(record)
    processes.stop([record], run=run, patience_s=0)  # it has no record any more
    assert not processes.is_running(record)


def test_a_broken_record_counts_as_none(run: Path) -> None:
    run.mkdir()
    (run / "odd.json").write_text("{")
    assert processes.recorded(run, "odd") is None
    assert processes.all_recorded(run) == []


def test_the_log_tail_begins_with_this_start(run: Path) -> None:
    log = run.parent / "logs" / "sleeper.log"
    log.parent.mkdir(parents=True)
    log.write_text("last week\n")
    record = start(run, "print('today, ready')")
    assert "today" in processes.log_tail(record)
    assert "last week" not in processes.log_tail(record)
    assert "last week" in log.read_text()


def test_an_interrupt_waits_until_the_record_is_written() -> None:
    reached = []

    def start_under_interrupt() -> None:
        with processes.interrupt_held_back():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("end of the block")

    with pytest.raises(KeyboardInterrupt):
        start_under_interrupt()
    assert reached == ["end of the block"]
