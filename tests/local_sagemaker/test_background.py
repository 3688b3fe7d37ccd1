"""The threads of jobs: a bounded number, however many jobs wait, and each job can be stopped."""

from __future__ import annotations

import threading

from local_sagemaker.background import Background
from tests.waiting import wait_until


class Jobs:
    """Jobs that run until `gate` opens or they are stopped."""

    def __init__(self) -> None:
        self.background = Background(2)
        self.gate = threading.Event()
        self.begun: list[str] = []
        self.stopped: list[str] = []

    def start(self, name: str, *, waits_for_none: bool = True) -> None:
        def run(stop: threading.Event) -> None:
            self.begun.append(name)
            while not self.gate.wait(0.01):
                if stop.is_set():
                    self.stopped.append(name)
                    return

        self.background.start("job", name, run, waits_for_none=waits_for_none)


def test_two_thousand_jobs_take_few_threads_and_all_run() -> None:
    jobs, before = Jobs(), threading.active_count()
    for number in range(2000):
        jobs.start(str(number))
    assert threading.active_count() - before <= 2 + 64
    assert jobs.background.carries("job", "1999")
    jobs.gate.set()
    wait_until(lambda: len(jobs.begun) == 2000)
    assert jobs.begun[:66] == sorted(jobs.begun[:66], key=int)
    wait_until(lambda: not jobs.background.carries("job", "1999"))


def test_job_that_has_no_thread_yet_hears_a_stop() -> None:
    jobs = Jobs()
    for number in range(200):
        jobs.start(str(number))
    jobs.background.stop("job", "199")
    wait_until(lambda: jobs.stopped == ["199"])
    assert "150" not in jobs.begun
    jobs.gate.set()
    wait_until(lambda: len(jobs.begun) == 200)


def test_what_waits_for_others_has_a_thread_always() -> None:
    jobs = Jobs()
    for number in range(200):
        jobs.start(str(number))
    jobs.start("tuning", waits_for_none=False)
    wait_until(lambda: "tuning" in jobs.begun)
    jobs.gate.set()
    wait_until(lambda: len(jobs.begun) == 201)


def test_shutdown_begins_nothing_more() -> None:
    jobs = Jobs()
    for number in range(200):
        jobs.start(str(number))
    jobs.background.close(5.0)
    assert len(jobs.begun) == 66
    assert not jobs.background.carries("job", "199")
