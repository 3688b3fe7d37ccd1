"""`make retrain`: from whatever runs now to one finished retraining, told in the terminal."""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from stack import lifecycle, readiness, recipe, report_files, shell
from stack.airflow_api import AirflowApi, moment
from stack.errors import StackError
from stack.jobs import JobWatch
from stack.progress import Task, TaskClock, Terminal
from stack.settings import Settings
from stack.summary import summary, wall_times

POLL_S = 1.5
DAG_WITHIN_S = 120.0
SILENCE_ALLOWED_S = 60.0

Say = Callable[[str], None]


def run(settings: Settings, *, data: str, name: str, force: bool, say: Say) -> int:
    """Starts what is missing, triggers `retrain_<name>`, follows it to its end. Returns the exit status of the run."""
    refusal = "`make retrain` is at work already in process {holder}; watch it there, or in the Airflow UI."
    with lifecycle.only_one(settings, "retrain", refusal):
        name = recipe.ensure(settings.recipes, data=data, name=name)
        lifecycle.start(settings, say)
        credentials = lifecycle.credentials_of(settings)
        api = AirflowApi(settings.airflow_url, credentials.airflow_password)
        dag_id = f"retrain_{name}"
        try:
            wait_for_dag(api, settings, name, dag_id)
            started = begin_or_join(api, dag_id, force=force, say=say)
            say(f"Airflow UI  {settings.airflow_url}/dags/{dag_id}/runs/{started['dag_run_id']}\n")
            return _follow(settings, api, name, dag_id, started, say)
        except httpx.HTTPError as error:
            raise StackError(
                f"Airflow at {settings.airflow_url} does not answer ({error or type(error).__name__}). "
                f"Its log: {settings.state / 'logs' / 'api-server.log'}. `make down`, then `make retrain` again."
            ) from error


def wait_for_dag(api: AirflowApi, settings: Settings, name: str, dag_id: str) -> None:
    """Returns when Airflow has read the recipe as it is now; a recipe that it cannot read ends in its own message."""
    asked = datetime.now(UTC)
    deadline = time.monotonic() + DAG_WITHIN_S
    requested = False
    while True:
        if not requested and (known := api.dag(dag_id) or api.any_dag()):
            api.request_parse(known["file_token"])
            requested = True
        complaint = recipe_complaint(api.import_errors(), name, asked)
        if complaint:
            raise StackError(complaint)
        dag = api.dag(dag_id)
        parsed = moment(dag.get("last_parsed_time")) if dag else None
        if dag and not dag.get("is_stale") and parsed and parsed > asked:
            return
        if time.monotonic() > deadline:
            errors = "\n".join(_last_line(error["stack_trace"]) for error in api.import_errors())
            raise StackError(
                f"Airflow does not show the DAG {dag_id} after {DAG_WITHIN_S:.0f} s. "
                + (f"It reports: {errors}" if errors else f"Is there a recipe {settings.recipes / name}.yaml?")
                + f" Log: {settings.state / 'logs' / 'dag-processor.log'}"
            )
        time.sleep(0.5)


def recipe_complaint(import_errors: list[dict[str, Any]], name: str, since: datetime) -> str | None:
    """What Airflow could not read of the recipe `name`, or of the DAG file itself, since then."""
    for error in import_errors:
        timestamp = moment(error.get("timestamp"))
        if timestamp and timestamp < since:
            continue
        about_recipe = f"{name}.yaml" in f"{error['filename']} {error['stack_trace']}"
        if about_recipe or ".yaml" not in error["stack_trace"]:
            return _last_line(error["stack_trace"])
    return None


def _last_line(trace: str) -> str:
    lines = [line for line in trace.strip().splitlines() if line.strip()]
    if not lines:
        return "(no reason given)"
    # "package.module.RecipeError: message" → "message"; continuation lines of the message are kept.
    start = max((i for i, line in enumerate(lines) if line.startswith('  File "')), default=-3) + 2
    message = lines[start if 0 < start < len(lines) else -1 :]
    while len(message) > 1 and message[0].startswith(" "):
        message = message[1:]
    head, colon, rest = message[0].partition(": ")
    if colon and head.replace(".", "").replace("_", "").isalnum() and head.endswith(("Error", "Exception")):
        message[0] = rest
    return "\n".join(message)


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
        return active[0]
    api.unpause(dag_id)
    return api.trigger(dag_id, {"force": True} if force else {})


def _follow(settings: Settings, api: AirflowApi, name: str, dag_id: str, started: dict[str, Any], say: Say) -> int:
    run_id = started["dag_run_id"]
    credentials = lifecycle.credentials_of(settings)
    since = moment(started.get("start_date")) or moment(started.get("queued_at")) or datetime.now(UTC)
    watch = JobWatch(
        readiness.aws_client("sagemaker", settings, credentials, read_timeout_s=5),
        readiness.aws_client("logs", settings, credentials, read_timeout_s=5),
        since,
    )
    began, clock, terminal = time.monotonic(), TaskClock(), Terminal()
    try:
        state, tasks = _watch(settings, api, dag_id, run_id, watch, clock, terminal)
    except KeyboardInterrupt:
        terminal.clear()
        print(
            f"\nNo longer watching. The run {run_id} goes on in Airflow: `make retrain` watches it again, "
            "`make down` stops everything.",
            file=sys.stderr,
        )
        return 130
    total_s = time.monotonic() - began
    failures = _failures(api, dag_id, run_id, tasks) if state != "success" else []
    say("")
    report = _report(settings, name, started, say)
    if report:
        s3 = readiness.aws_client("s3", settings, credentials)
        say(summary(report, tasks, total_s))
        folder = settings.state / "reports" / str(report.get("run_name") or run_id)
        files = report_files.download(s3, report, folder)
    else:
        say(wall_times(tasks, total_s))
        files = []
    say(_closing(settings, files, state, failures, run_id))
    return 0 if state == "success" else 1


def _watch(
    settings: Settings,
    api: AirflowApi,
    dag_id: str,
    run_id: str,
    watch: JobWatch,
    clock: TaskClock,
    terminal: Terminal,
) -> tuple[str, list[Task]]:
    """Polls until the run has ended; returns its state and its tasks."""
    answered = time.monotonic()
    while True:
        try:
            state = str(api.run(dag_id, run_id)["state"])
            tasks = clock.tasks(api.task_instances(dag_id, run_id), datetime.now(UTC))
            answered = time.monotonic()
        except httpx.HTTPError:
            # A loaded machine may be slow to answer; a stack that was stopped never will.
            if not lifecycle.is_up(settings):
                terminal.clear()
                raise StackError("The stack was stopped while the run was under way; `make retrain` goes on.") from None
            if time.monotonic() - answered > SILENCE_ALLOWED_S:
                raise
            time.sleep(POLL_S)
            continue
        terminal.update(tasks, lambda task: watch.detail(task.name) if task.state in ("deferred", "running") else None)
        if state in ("success", "failed"):
            terminal.clear()
            return state, tasks
        time.sleep(POLL_S)


def _failures(api: AirflowApi, dag_id: str, run_id: str, tasks: list[Task]) -> list[str]:
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


def _report(settings: Settings, name: str, started: dict[str, Any], say: Say) -> dict[str, Any] | None:
    s3 = readiness.aws_client("s3", settings, lifecycle.credentials_of(settings))
    run_after = moment(started["run_after"])
    assert run_after is not None
    try:
        return report_files.find_report(s3, name, run_after, run_after)
    except (BotoCoreError, ClientError, ValueError) as error:
        say(f"The run's report cannot be read: {error}")
        return None


def _closing(settings: Settings, files: list[Any], state: str, failures: list[str], run_id: str) -> str:
    credentials = lifecycle.credentials_of(settings)
    lines = [""]
    if failures:
        lines += ["What failed", *(f"  {failure}" for failure in failures), ""]
    lines += [f"Report           {path}" for path in files]
    lines.append(shell.addresses(settings, credentials, secret=sys.stdout.isatty()))
    lines += ["", f"Run {run_id}: {state}. `make down` stops the stack; a next `make retrain` reuses it."]
    lines.append("With your own images, one folder per class: make retrain DATA=/path/to/folder NAME=my-classifier")
    return "\n".join(lines)
