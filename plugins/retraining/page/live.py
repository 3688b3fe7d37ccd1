"""A run's documents as they are now: its report where it has ended, and what its tasks have left so far where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from retraining.page.airflow_runs import RunRecord
from retraining.page.documents import Documents, Shelf, name_of, read_dataset, run_key
from retraining.report import LEFT, gather, run_report

ENDINGS = ("report", "outcome")
ASKED = frozenset(
    {
        *LEFT.values(),
        ("preflight", "return_value"),
        ("package_source", "return_value"),
        ("debugger_verdict", "verdicts"),
    }
)
"""All that a page wants to know of what tasks left in XCom, as (task, key); and why a task failed."""


def read_run(shelf: Shelf, record: RunRecord, find: Callable[[str, str], Any]) -> Documents:
    """`find` asks for what tasks left in XCom, also where the report is not written yet."""
    preflight = find("preflight", "return_value") or {}
    recipe, name = record.recipe or "", name_of(record, shelf.bucket, preflight.get("run_name"))
    key = run_key(recipe, name)
    report = None if record.goes_on else shelf.json(f"{key}/report.json")
    report = report or so_far(record, name, find)
    return Documents(
        record=record,
        report=report,
        evaluation=shelf.optional(f"{key}/evaluation.json") if report.get("candidate") else None,
        dataset=read_dataset(shelf, recipe, report),
        album=shelf.optional(f"{key}/page/images.json") if report.get("candidate") else None,
        facts={"preflight": preflight, "package_source": find("package_source", "return_value") or {}},
    )


def so_far(record: RunRecord, name: str, find: Callable[[str, str], Any]) -> dict[str, Any]:
    """The report of a run that goes on, or that was ended before it wrote one."""
    states = {task.task_id: task.state for task in record.tasks if task.task_id not in ENDINGS}
    failures = {task: text for task in states if (text := find(task, "failure"))}
    rules = find("debugger_verdict", "verdicts") or []
    found = gather(name, record.recipe or "", find, states=states, failures=failures, rules=rules)
    report = run_report(found)
    if record.goes_on:
        report |= {"outcome": "running", "reason": _where(record)}
    return report


def _where(record: RunRecord) -> str:
    """What it does now."""
    busy = [task.task_id for task in record.tasks if task.state in ("running", "deferred", "up_for_retry")]
    return ", ".join(busy) if busy else "waits for its first task" if not record.tasks else "between two tasks"
