"""One run of one DAG: waiting until Airflow can begin it, beginning it, following it, telling why it failed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from stack import lifecycle
from stack.airflow_api import AirflowApi, moment
from stack.errors import StackError
from stack.jobs import JobWatch
from stack.progress import Task, TaskClock, Terminal
from stack.settings import Settings

DAG_FILE = "retrain_classifier.py"
DAG_WITHIN_S = 120.0
POLL_S = 1.5
# A machine that trains on all its cores may keep the API waiting.
SILENCE_ALLOWED_S = 90.0

Say = Callable[[str], None]


def wait_for_dag(api: AirflowApi, settings: Settings, recipe: str, dag_id: str) -> None:
    """Returns when Airflow has read the recipe as it is now."""
    asked = datetime.now(UTC)
    deadline = time.monotonic() + DAG_WITHIN_S
    requested = False
    while True:
        if not requested and (known := api.dag(dag_id) or api.any_dag()):
            api.request_parse(known["file_token"])
            requested = True
        complaint = import_complaint(api.import_errors(), asked)
        if complaint:
            raise StackError(complaint)
        dag = api.dag(dag_id)
        parsed = moment(dag.get("last_parsed_time")) if dag else None
        if dag and not dag.get("is_stale") and parsed and parsed > asked:
            return
        if time.monotonic() > deadline:
            raise StackError(
                f"Airflow does not show the DAG {dag_id} after {DAG_WITHIN_S:.0f} s. "
                f"Does {settings.recipes / recipe}.yaml say `name: {recipe}`? "
                f"The log of what Airflow reads: {settings.state / 'logs' / 'dag-processor.log'}"
            )
        time.sleep(0.5)


def import_complaint(import_errors: list[dict[str, Any]], since: datetime) -> str | None:
    """Why the file that makes the DAGs cannot be read, if Airflow found so since then."""
    for error in import_errors:
        found_at = moment(error.get("timestamp"))
        if error["filename"].endswith(DAG_FILE) and (found_at is None or found_at >= since):
            return f"Airflow cannot read dags/{DAG_FILE}:\n{error['stack_trace'].strip()}"
    return None


def begin_or_join(api: AirflowApi, dag_id: str, *, force: bool, say: Say) -> dict[str, Any]:
    """Triggers a run; one that is under way already (Ctrl-C left it, or the schedule began it) is followed instead."""
    active = api.active_runs(dag_id)
    if active:
        run_id = active[0]["dag_run_id"]
        if force and not (active[0].get("conf") or {}).get("force"):
            raise StackError(
                f"{dag_id} is at work already on {run_id}, which was not started with FORCE=1. "
                "Watch it to its end with `make retrain`, then force another."
            )
        say(f"{run_id} is under way already; following it instead of starting a second one.")
    api.unpause(dag_id)
    return active[0] if active else api.trigger(dag_id, {"force": True} if force else {})


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended."""

    state: str  # success | failed
    tasks: list[Task]
    total_s: float


def follow(
    api: AirflowApi, settings: Settings, dag_id: str, run_id: str, *, jobs: JobWatch, terminal: Terminal
) -> Ending:
    """Shows the run's progress until it has ended."""
    clock, answered = TaskClock(), time.monotonic()
    try:
        while True:
            try:
                run = api.run(dag_id, run_id)
                before = _before(api, dag_id, run_id) if run["state"] == "queued" else None
                tasks = clock.tasks(api.task_instances(dag_id, run_id), datetime.now(UTC))
            except httpx.HTTPError:
                if not lifecycle.is_up(settings):
                    raise StackError(
                        "The stack was stopped while the run was under way. `make retrain` starts it and follows on."
                    ) from None
                if time.monotonic() - answered > SILENCE_ALLOWED_S:
                    raise
            else:
                answered = time.monotonic()
                terminal.wait_for(before)
                terminal.update(tasks, lambda task: jobs.detail(task.name) if task.is_at_work else None)
                if run["state"] in ("success", "failed"):
                    return Ending(state=run["state"], tasks=tasks, total_s=_seconds(run))
            time.sleep(POLL_S)
    finally:
        terminal.clear()


def _before(api: AirflowApi, dag_id: str, run_id: str) -> str | None:
    """The run that is at work while this one waits: of a DAG there is one at a time."""
    others = (run["dag_run_id"] for run in api.active_runs(dag_id) if run["state"] == "running")
    return next((str(other) for other in others if other != run_id), None)


def _seconds(run: dict[str, Any]) -> float:
    began, ended = moment(run["queued_at"]) or moment(run["start_date"]), moment(run["end_date"])
    return (ended - began).total_seconds() if began and ended else 0.0


def failures(api: AirflowApi, dag_id: str, run_id: str, tasks: list[Task]) -> list[str]:
    """For each failed task its name and the error that its log ends with."""
    found = []
    for task in tasks:
        if task.state == "failed":
            try:
                events = api.log_events(dag_id, run_id, task.name, task.try_number)
                found.append(f"{task.name}: {error_in(events)}")
            except (StackError, httpx.HTTPError) as error:
                found.append(f"{task.name}: its log cannot be read ({error})")
    return found


def error_in(events: list[dict[str, Any]]) -> str:
    """The last exception of a task's log, else its last error message."""
    for event in reversed(events):
        for detail in event.get("error_detail") or []:
            if detail.get("exc_value"):
                return str(detail["exc_value"])
    for event in reversed(events):
        if event.get("level") in ("error", "critical"):
            return str(event.get("event"))
    return "it left no error message"
