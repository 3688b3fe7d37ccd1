"""What Airflow's database knows of the runs of a DAG. The one place of these pages that reads it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

UNFINISHED = ("queued", "running")
ENDINGS = ("report", "outcome")
"""Tasks that tell how a run went, and are no part of it."""
NOT_BEGUN = (None, "scheduled", "queued")
"""States of a task in which its times, and what it left, are of an attempt before this one, if there is anything."""
DAG_PREFIX = "retrain_"
FAILURE = "failure"
MAX_FACT = 2**20
"""Characters of one value that a task left: the comparison of a thousand classes has a tenth of it."""


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """One task of a run."""

    task_id: str
    state: str | None
    start: datetime | None
    end: datetime | None
    resumes: bool = False
    """It has waited for something, and goes on as soon as there is room."""

    @property
    def begun(self) -> bool:
        """Of this attempt: Airflow keeps the times of a task that was cleared until it begins anew."""
        return self.resumes or self.state not in NOT_BEGUN

    @property
    def seconds(self) -> float | None:
        """Wall time of the last attempt; None while it goes on, and for what never began."""
        return (self.end - self.start).total_seconds() if self.begun and self.start and self.end else None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run of a DAG, as it stands."""

    dag_id: str
    run_id: str
    run_after: datetime
    state: str
    start: datetime | None
    end: datetime | None
    tasks: tuple[TaskRecord, ...] = ()

    @property
    def recipe(self) -> str | None:
        """None for a DAG of somebody else."""
        return self.dag_id.removeprefix(DAG_PREFIX) if self.dag_id.startswith(DAG_PREFIX) else None

    @property
    def goes_on(self) -> bool:
        return self.state in UNFINISHED

    @property
    def asks(self) -> bool:
        """Whether a person's answer is what it waits for."""
        return self.goes_on and any(task.state == "awaiting_input" for task in self.tasks)

    @property
    def seconds(self) -> float | None:
        return (self.end - self.start).total_seconds() if self.start and self.end else None

    @property
    def reported(self) -> bool:
        """Whether the report in S3 tells of this attempt: whoever clears tasks begins another.

        Of a run whose tasks Airflow does not tell, nothing speaks against it.
        """
        if self.goes_on:
            return False
        if not self.tasks:
            return True
        written = self.task("report")
        if written is None or written.state != "success" or written.start is None:
            return False
        others = [task for task in self.tasks if task.task_id not in ENDINGS]
        return all(task.begun and (task.start or written.start) <= written.start for task in others)

    def task(self, task_id: str) -> TaskRecord | None:
        return next((task for task in self.tasks if task.task_id == task_id), None)


def recipes() -> list[str]:
    """Of all DAGs that retrain, as far as Airflow still finds them; in order."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalars(select(DagModel.dag_id).where(DagModel.dag_id.startswith(DAG_PREFIX, autoescape=True)))
        return sorted(dag_id.removeprefix(DAG_PREFIX) for dag_id in found)


def find_run(dag_id: str, run_id: str) -> RunRecord | None:
    """None where Airflow has no such run."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        if run is None:
            return None
        rows = session.execute(
            select(*_columns())
            .where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
            .order_by(TaskInstance.start_date, TaskInstance.task_id)
        )
        tasks = tuple(_task(row) for row in rows)
        return _record(run, tasks)


def last_runs(dag_id: str, most: int, until: datetime | None = None) -> list[RunRecord]:
    """The newest first, with their tasks; of those that were due `until` then, if that is given."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        due = (DagRun.dag_id == dag_id, *([DagRun.run_after <= until] if until else []))
        runs = list(session.scalars(select(DagRun).where(*due).order_by(DagRun.run_after.desc()).limit(most)))
        of_runs = (TaskInstance.dag_id == dag_id, TaskInstance.run_id.in_([run.run_id for run in runs]))
        tasks: dict[str, list[TaskRecord]] = {}
        for row in session.execute(select(TaskInstance.run_id, *_columns()).where(*of_runs)):
            tasks.setdefault(row[0], []).append(_task(row[1:]))
        return [_record(run, tuple(tasks.get(run.run_id, ()))) for run in runs]


def find_facts(record: RunRecord, asked: Collection[tuple[str, str]]) -> Callable[[str, str], Any]:
    """What the tasks of a run left in XCom, to be asked as `find(task, key)`; None for what is not there.

    Of all that lies there only `asked`, and each task's `failure`, as far as one value has MAX_FACT characters.
    """
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import String, and_, cast, func, or_, select

    wanted = or_(
        XComModel.key == FAILURE, *(and_(XComModel.task_id == task, XComModel.key == key) for task, key in asked)
    )
    of_run = (XComModel.dag_id == record.dag_id, XComModel.run_id == record.run_id, XComModel.map_index == -1)
    size = func.length(cast(XComModel.value, String))
    with create_session() as session:
        left = session.execute(
            select(XComModel.task_id, XComModel.key, XComModel.value).where(*of_run, wanted, size <= MAX_FACT)
        )
        facts = {(fact.task_id, fact.key): XComModel.deserialize_value(fact) for fact in left}
    return lambda task_id, key: facts.get((task_id, key))


def _columns() -> tuple[Any, ...]:
    from airflow.models.taskinstance import TaskInstance as Task

    return Task.task_id, Task.state, Task.start_date, Task.end_date, Task.next_method


def _task(row: Sequence[Any]) -> TaskRecord:
    task_id, state, start, end, next_method = row
    return TaskRecord(task_id=task_id, state=state, start=start, end=end, resumes=next_method is not None)


def _record(run: Any, tasks: tuple[TaskRecord, ...] = ()) -> RunRecord:
    return RunRecord(
        dag_id=run.dag_id,
        run_id=run.run_id,
        run_after=run.run_after,
        state=str(getattr(run.state, "value", run.state)),
        start=run.start_date,
        end=run.end_date,
        tasks=tasks,
    )
