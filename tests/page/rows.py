"""Rows of Airflow's database, as tasks of a run leave them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

DAG_ID, RUN_ID = "retrain_digits", "manual__1"
RUN = {"dag_id": DAG_ID, "run_id": RUN_ID}


def set_state(state: str) -> None:
    """Of the one run."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        session.query(DagRun).filter_by(**RUN).update({"state": state})


def add_task(
    task_id: str, state: str | None, start: datetime | None = None, end: datetime | None = None, **left: Any
) -> None:
    """A task of the one run, and what it left in XCom by key."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import insert

    with create_session() as session:
        run = session.query(DagRun).filter_by(**RUN).one()
        values = RUN | {"task_id": task_id, "map_index": -1}
        others = {"id": uuid4(), "state": state, "start_date": start, "end_date": end, "pool": "default_pool"}
        more = {"pool_slots": 1, "try_number": 1, "max_tries": 0, "priority_weight": 1, "queue": "default"}
        session.execute(insert(TaskInstance).values(**values, **others, **more))
        for key, value in left.items():
            session.execute(insert(XComModel).values(**values, dag_run_id=run.id, key=key, value=value))


def forget_tasks() -> None:
    """All tasks of the one run, with what they left."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        for table in (XComModel, TaskInstance):
            session.query(table).filter_by(**RUN).delete()


@contextlib.contextmanager
def another_run(run_id: str, run_after: datetime) -> Iterator[None]:
    """A run of the same DAG, which failed."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunType

    row = {"dag_id": RUN["dag_id"], "run_id": run_id}
    with create_session() as session:
        session.add(DagRun(**row, run_after=run_after, run_type=DagRunType.MANUAL, state="failed"))
    try:
        yield
    finally:
        with create_session() as session:
            session.query(DagRun).filter_by(**row).delete()


def add_dags(*dag_ids: str) -> None:
    """DAGs that Airflow has parsed."""
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="tests"))
        session.flush()
        for dag_id in dag_ids:
            session.merge(DagModel(dag_id=dag_id, bundle_name="tests", is_stale=False))
