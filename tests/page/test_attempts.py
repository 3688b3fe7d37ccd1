"""What a page tells of a run is of its latest attempt, in every state that Airflow has for runs and tasks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow.utils.state import TaskInstanceState

from retraining.page import airflow_runs
from retraining.page.airflow_runs import RunRecord, TaskRecord
from retraining.page.documents import Documents
from retraining.page.figures import STATES, moment
from retraining.page.headline import headline
from retraining.page.live import of_this_attempt, so_far, waiting_for
from tests.page.rows import RUN, add_task, forget_tasks, set_state
from tests.page.runs import BEGAN


def task(task_id: str, state: str | None = "success", began: int = 0, **more: Any) -> TaskRecord:
    """One that began after so many minutes, and took half of one."""
    start = BEGAN + timedelta(minutes=began)
    return TaskRecord(task_id=task_id, state=state, start=start, end=start + timedelta(seconds=30), **more)


def run(*tasks: TaskRecord, state: str = "success") -> RunRecord:
    return RunRecord(
        dag_id="retrain_digits", run_id="x", run_after=BEGAN, state=state, start=BEGAN, end=None, tasks=tasks
    )


def told(*tasks: TaskRecord, state: str = "running") -> str:
    """The headline of a run that goes on."""
    return " ".join(headline(so_far(run(*tasks, state=state), "name", lambda *_: None)))


def test_a_report_is_of_the_attempt_that_wrote_it() -> None:
    whole = [task("train", began=1), task("report", began=5), task("outcome", began=6)]
    assert run(*whole).reported
    assert not run(*whole, state="queued").reported


@pytest.mark.parametrize(
    "later",
    [
        [task("train", "failed", 9), task("report", "success", 5)],
        [task("train", "failed", 9), task("report", "failed", 10)],
        [task("train", None, 1), task("report", "success", 5)],
        [task("train", "success", 1), task("report", None, 5)],
    ],
    ids=["train alone again", "report failed", "train cleared", "report cleared"],
)
def test_a_later_attempt_is_not_told_by_an_earlier_report(later: list[TaskRecord]) -> None:
    assert not run(*later, state="failed").reported


def test_what_a_cleared_task_left_is_not_told() -> None:
    record = run(task("tune"), task("train", None), task("deploy", "queued", resumes=True))
    find = of_this_attempt(record, lambda task_id, key: f"{key} of {task_id}")
    assert find("tune", "x") == "x of tune" and find("deploy", "x") == "x of deploy"
    assert find("train", "x") is None and find("absent", "x") is None


def test_a_cleared_task_has_no_time_of_this_attempt() -> None:
    assert [task("a").seconds, task("a", None).seconds, task("a", "queued").seconds] == [30.0, None, None]


def test_a_run_that_waits_tells_for_which() -> None:
    waits, ahead = run(task("preflight", None), state="queued"), run(state="running")
    documents = Documents(record=waits, report=so_far(waits, "name", lambda *_: None))
    told = " ".join(headline(waiting_for(documents, [run(state="success"), ahead]).report))
    assert told == f"Waiting. The run of {moment(ahead.run_after)} has to end first."
    assert waiting_for(documents, [run(state="success")]) == documents


def test_a_run_that_waits_is_not_called_running() -> None:
    assert told(task("preflight", None), state="queued").startswith("Waiting. Airflow has not begun it")


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([task("preflight"), task("tune", "running")], "Running. Now: tune."),
        ([task("tune", "deferred")], "Running. Now: tune waits for what it has begun."),
        ([task("tune", "up_for_retry")], "Running. Now: tune failed, and tries again soon."),
        ([task("tune", "up_for_reschedule")], "Running. Now: tune waits, to look again."),
        ([task("preflight"), task("tune", "queued")], "Running. Now: tune as soon as there is room."),
        ([task("preflight"), task("tune", None)], "Running. Now: its next task is about to begin."),
        ([task("old", "removed"), task("preflight", None)], "Running. Now: it has just begun."),
        ([], "Running. Now: it has just begun."),
    ],
)
def test_what_goes_on_is_said_in_words(tasks: list[TaskRecord], said: str) -> None:
    assert told(*tasks) == said


def test_every_state_of_a_task_has_its_words() -> None:
    assert STATES.keys() == {None, *(state.value for state in TaskInstanceState)}


@pytest.fixture
def rows(airflow: Any) -> Iterator[None]:
    forget_tasks()
    yield
    forget_tasks()
    set_state("success")


def test_airflow_tells_of_the_latest_attempt(rows: None) -> None:
    set_state("failed")
    add_task("report", "success", BEGAN, BEGAN)
    add_task("train", None, BEGAN, BEGAN)
    record = airflow_runs.find_run(**RUN)
    assert record and not record.reported
    assert [found.begun for found in record.tasks] == [True, False]
