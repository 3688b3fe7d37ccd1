"""The report of a run as one file, made by the run's own last task: from the same documents and code as its page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from retraining.page import rendering
from retraining.page.airflow_runs import RunRecord, TaskRecord
from retraining.page.documents import Shelf
from retraining.page.live import from_report
from retraining.run import Run


def archived(run: Run, report: Mapping[str, Any]) -> bytes:
    """HTML without anything outside of it. When tasks began and ended only Airflow's database knows: it is not told."""
    facts = {"preflight": run.find("preflight") or {}, "package_source": run.find("package_source") or {}}
    shelf = Shelf(s3=run.s3, bucket=run.environment.bucket)
    return rendering.one_file(from_report(shelf, record_of(run, report), run.plan.run_key, report, facts))


def record_of(run: Run, report: Mapping[str, Any]) -> RunRecord:
    """What a task knows of its run, which ends with it."""
    dag_run: Any = run.context["dag_run"]
    tasks = (TaskRecord(task_id=task, state=state, start=None, end=None) for task, state in report["tasks"].items())
    return RunRecord(
        dag_id=dag_run.dag_id,
        run_id=dag_run.run_id,
        run_after=dag_run.run_after,
        state="failed" if report["outcome"] == "failed" else "success",
        start=dag_run.start_date,
        end=datetime.now(UTC),
        tasks=tuple(tasks),
    )
