"""Of what the tasks of a run left in Airflow's database, a page reads what it asks for, as far as it can hold it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from retraining.page import airflow_runs
from retraining.page.live import ASKED
from retraining.report import LEFT
from tests.page.rows import RUN, add_task, forget_tasks


@pytest.fixture(autouse=True)
def tasks(airflow: Any) -> Iterator[None]:
    forget_tasks()
    yield
    forget_tasks()


def find() -> Any:
    record = airflow_runs.find_run(**RUN)
    assert record
    return airflow_runs.find_facts(record, ASKED)


def test_only_what_is_asked_for_is_read() -> None:
    add_task("preflight", "success", return_value={"run_name": "x"}, ceiling={"usd": 1}, more="unasked")
    add_task("train", "failed", failure="exit code 1", return_value={"name": "job"})
    found = find()
    assert found("preflight", "return_value") == {"run_name": "x"} and found("preflight", "ceiling") == {"usd": 1}
    assert found("train", "failure") == "exit code 1" and found("train", "return_value") == {"name": "job"}
    assert found("preflight", "more") is None


def test_a_fact_of_any_size_takes_bounded_memory() -> None:
    add_task("compare", "success", comparison={"golden": "x" * airflow_runs.MAX_FACT}, return_value=True)
    add_task("tune", "success", return_value={"name": "search"})
    assert find()("compare", "comparison") is None and find()("tune", "return_value") == {"name": "search"}


def test_every_fact_of_a_report_is_asked_for() -> None:
    assert set(LEFT.values()) < ASKED
