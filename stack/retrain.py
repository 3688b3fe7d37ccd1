"""`make retrain`: from whatever runs now to one finished retraining, told in the terminal."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from stack import dag_runs, lifecycle, readiness, recipe, report_files, shell
from stack.airflow_api import AirflowApi, moment
from stack.credentials import Credentials
from stack.errors import StackError
from stack.jobs import JobWatch
from stack.progress import Terminal
from stack.settings import Settings
from stack.summary import summary, wall_times

INTERRUPTED = 130
REPORT_TAB = "retraining_report"
"""Where Airflow shows the page of a run; the plugin names it so."""

Say = Callable[[str], None]


def run(settings: Settings, *, data: str, name: str, force: bool, say: Say) -> int:
    """Starts what is missing, triggers `retrain_<name>`, follows it to its end. Returns the exit status of the run."""
    refusal = "`make retrain` is at work already in process {holder}; watch it there, or in the Airflow UI."
    with lifecycle.only_one(settings, "retrain", refusal):
        name = recipe.ensure(settings.recipes, data=data, name=name)
        recipe.require_valid(settings.root, name)
        lifecycle.start(settings, say)
        credentials = lifecycle.credentials_of(settings)
        api = AirflowApi(settings.airflow_url, credentials.airflow_password)
        dag_id = f"retrain_{name}"
        try:
            dag_runs.wait_for_dag(api, settings, name, dag_id)
            begun = dag_runs.begin_or_join(api, dag_id, force=force, say=say)
            return _follow(settings, credentials, api, name, begun, say)
        except httpx.HTTPError as error:
            raise StackError(
                f"Airflow at {settings.airflow_url} does not answer ({error or type(error).__name__}). "
                f"Its log: {settings.state / 'logs' / 'api-server.log'}. `make down`, then `make retrain` again."
            ) from error


def _follow(
    settings: Settings, credentials: Credentials, api: AirflowApi, name: str, begun: dict[str, Any], say: Say
) -> int:
    dag_id, run_id = f"retrain_{name}", str(begun["dag_run_id"])
    page = f"{settings.airflow_url}/dags/{dag_id}/runs/{quote(run_id)}/plugin/{REPORT_TAB}"
    say(f"Watch it    {page}\n")
    jobs = JobWatch(
        readiness.aws_client("sagemaker", settings, credentials, read_timeout_s=5),
        readiness.aws_client("logs", settings, credentials, read_timeout_s=5),
        moment(begun["queued_at"]) or datetime.now(UTC),
        name,
    )
    try:
        ending = dag_runs.follow(api, settings, dag_id, run_id, jobs=jobs, terminal=Terminal())
    except KeyboardInterrupt:
        print(
            f"\nNo longer watching. The run {run_id} goes on in Airflow: `make retrain` watches it again, "
            "`make down` stops everything.",
            file=sys.stderr,
        )
        return INTERRUPTED
    say("")
    report, files = _report(settings, credentials, name, begun, say)
    if report:
        say(summary(report, ending.tasks, ending.total_s))
    else:
        # A report tells itself what failed; without one, the tasks' logs must.
        say("\n  ".join(["What failed", *dag_runs.failures(api, dag_id, run_id, ending.tasks)]))
        say("\n" + wall_times(ending.tasks, ending.total_s))
    say("")
    say(f"Report           {page}")
    for file in files:
        say(f"                 {file}")
    say(shell.addresses(settings, credentials, secret=sys.stdout.isatty()))
    say(f"\nRun {run_id}: {ending.state}. `make down` stops the stack; a next `make retrain` reuses it.")
    say("With your own images, one folder per class: make retrain DATA=/path/to/folder NAME=my-classifier")
    return 0 if ending.state == "success" else 1


def _report(
    settings: Settings, credentials: Credentials, name: str, begun: dict[str, Any], say: Say
) -> tuple[dict[str, Any] | None, list[Path]]:
    """The run's report and the local copies of its files; (None, []) if it wrote none."""
    s3 = readiness.aws_client("s3", settings, credentials)
    due = datetime.fromisoformat(begun["run_after"])
    try:
        report = report_files.find_report(s3, name, due)
        folder = settings.state / "reports" / str((report or {}).get("run_name"))
        return report, report_files.download(s3, report, folder) if report else []
    except (BotoCoreError, ClientError, ValueError) as error:
        say(f"The run's report cannot be read: {error}")
        return None, []
