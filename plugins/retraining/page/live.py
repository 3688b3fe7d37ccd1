"""A run's documents as they are now: its report where it has ended, and what its tasks have left so far where not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from retraining.dataset.versions.strips import key_of
from retraining.page.airflow_runs import ENDINGS, RunRecord, TaskRecord
from retraining.page.documents import Documents, Shelf, name_of, read_version, run_key
from retraining.page.figures import moment
from retraining.report import LEFT, gather, run_report

ASKED = frozenset(
    {
        *LEFT.values(),
        ("preflight", "return_value"),
        ("package_source", "return_value"),
        ("debugger_verdict", "verdicts"),
        ("train", "job"),
    }
)
"""All that a page wants to know of what tasks left in XCom, as (task, key); and why a task failed."""
ASKED_FOR_STRIPS = frozenset({("preflight", "return_value"), ("sync_dataset", "return_value")})
A_STRIP = re.compile(r"[0-9a-f]{20}")


def read_run(
    shelf: Shelf,
    record: RunRecord,
    find: Callable[[str, str], Any],
    epochs: Callable[[str], dict[str, Any] | None] = lambda job: None,
) -> Documents:
    """`find` asks for what tasks left in XCom, also where the report is not written yet; `epochs` a training's log."""
    key, report = _written(shelf, record, find)
    facts = {task: find(task, "return_value") or {} for task in ("preflight", "package_source")}
    if report:
        return from_report(shelf, record, key, report, facts)
    now = of_this_attempt(record, find)
    job, report = now("train", "job"), so_far(record, key.rpartition("/")[2], now)
    return replace(from_report(shelf, record, key, report, facts), training=epochs(job["name"]) if job else None)


def read_profiler_report(shelf: Shelf, record: RunRecord, find: Callable[[str, str], Any]) -> bytes | None:
    """The HTML that a run's profiler left below the run's own prefix; one at any other place is not read."""
    key, report = _written(shelf, record, find)
    report = report or so_far(record, key.rpartition("/")[2], of_this_attempt(record, find))
    address, bucket = str((report.get("profiler") or {}).get("html", "")), f"s3://{shelf.bucket}/"
    return shelf.read(address.removeprefix(bucket)) if address.startswith(f"{bucket}{key}/") else None


def read_strip(shelf: Shelf, record: RunRecord, find: Callable[[str, str], Any], place: int) -> bytes | None:
    """The WebP that shows the class at this place of strips.json, of the version that a run was trained on."""
    dataset = of_this_attempt(record, find)("sync_dataset", "return_value")
    report = {"dataset": dataset} if dataset else _written(shelf, record, find)[1] or {}
    recipe = record.recipe or ""
    classes = (read_version(shelf, recipe, report, "strips.json") or {}).get("classes") or []
    digest = str(classes[place].get("strip")) if place < len(classes) else ""
    return shelf.read(f"{recipe}/data/{key_of(digest)}") if A_STRIP.fullmatch(digest) else None


def _written(shelf: Shelf, record: RunRecord, find: Callable[[str, str], Any]) -> tuple[str, dict[str, Any] | None]:
    """The prefix of a run's own documents, and its report where the latest attempt wrote one."""
    began_as = (find("preflight", "return_value") or {}).get("run_name")
    key = run_key(record.recipe or "", name_of(record, shelf.bucket, began_as))
    return key, shelf.json(f"{key}/report.json") if record.reported else None


def from_report(
    shelf: Shelf, record: RunRecord, key: str, report: Mapping[str, Any], facts: Mapping[str, Any]
) -> Documents:
    """A run's documents, whose report is known; `key` is the prefix of its own."""
    recipe, bad, scored = record.recipe or "", (report.get("dataset") or {}).get("quarantined"), report.get("candidate")
    wanted: dict[str, Callable[[], dict[str, Any] | None]] = {}
    if report.get("dataset"):
        wanted["strips"] = lambda: read_version(shelf, recipe, report, "strips.json")
    if bad:
        wanted["kept_out"] = lambda: read_version(shelf, recipe, report, "kept-out.json")
    if scored:
        wanted["evaluation"] = lambda: shelf.optional(f"{key}/evaluation.json")
        wanted["album"] = lambda: shelf.optional(f"{key}/page/images.json")
        wanted["labels"] = lambda: shelf.optional(f"{key}/page/labels.json")
    if report.get("training") or report["failures"]:
        wanted["training"] = lambda: shelf.optional(f"{key}/page/training.json")
    if _issues(report):
        wanted["series"] = lambda: shelf.optional(f"{key}/page/rules.json")
    found = _at_once(wanted)
    if bad and not found["kept_out"]:  # an earlier version of this package left another list
        found["dataset"] = read_version(shelf, recipe, report, "dataset.json")
    return Documents(record=record, report=report, facts=facts, **found)


def _at_once(wanted: Mapping[str, Callable[[], dict[str, Any] | None]]) -> dict[str, Any]:
    """Each costs a journey to S3 and back: together they cost about one."""
    if not wanted:
        return {}
    with ThreadPoolExecutor(len(wanted)) as pool:
        begun = {name: pool.submit(read) for name, read in wanted.items()}
        return {name: one.result() for name, one in begun.items()}


def _issues(report: Mapping[str, Any]) -> bool:
    return any(rule.get("status") == "IssuesFound" for rule in report.get("rules") or ())


def of_this_attempt(record: RunRecord, find: Callable[[str, str], Any]) -> Callable[[str, str], Any]:
    """Without what tasks left before they were cleared: Airflow removes that only when they begin anew."""
    begun = {task.task_id for task in record.tasks if task.begun}
    return lambda task_id, key: find(task_id, key) if task_id in begun else None


def so_far(record: RunRecord, name: str, find: Callable[[str, str], Any]) -> dict[str, Any]:
    """The report of a run that goes on, or that was ended before it wrote one."""
    states = {task.task_id: task.state for task in record.tasks if task.task_id not in ENDINGS}
    failures = {task: text for task in states if (text := find(task, "failure"))}
    rules = find("debugger_verdict", "verdicts") or []
    found = gather(name, record.recipe or "", find, states=states, failures=failures, rules=rules)
    report = run_report(found)
    if record.state == "queued":
        report |= {"outcome": "waiting", "reason": WAITS}
    elif record.goes_on:
        report |= {"outcome": "running", "reason": _now(record)}
    return report


def waiting_for(run: Documents, others: Iterable[RunRecord]) -> Documents:
    """The same, and where it waits for another run of its DAG, of which one goes on at a time, which."""
    ahead = next((other for other in others if other.state == "running"), None)
    if run.report["outcome"] != "waiting" or ahead is None:
        return run
    return replace(run, report={**run.report, "reason": f"The run of {moment(ahead.run_after)} has to end first"})


WAITS = "Airflow has not begun it: another run of this DAG goes on, the DAG is paused, or there is no room"
DOING: Mapping[str, str] = {
    "running": "",
    "deferred": "waits for what it has begun",
    "restarting": "is ended, to begin anew",
    "up_for_reschedule": "waits, to look again",
    "up_for_retry": "failed, and tries again soon",
    "awaiting_input": "waits for a person",
}
"""What a task does in a state of Airflow in which it is not at rest."""


def _now(record: RunRecord) -> str:
    """What it does now, in words; without tasks that Airflow took off the DAG, which do nothing."""
    tasks = [task for task in record.tasks if task.state != "removed"]
    if busy := [_doing(task) for task in tasks if task.state in DOING or (task.resumes and not task.end)]:
        return ", ".join(busy)
    if soon := [task.task_id for task in tasks if task.state in ("scheduled", "queued")]:
        return f"{', '.join(soon)} as soon as there is room"
    return "its next task is about to begin" if any(task.begun for task in tasks) else "it has just begun"


def _doing(task: TaskRecord) -> str:
    what = DOING.get(task.state or "", "goes on as soon as there is room")
    return f"{task.task_id} {what}".rstrip()
