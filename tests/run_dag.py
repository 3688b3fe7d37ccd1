"""Runs one DAG to its end in a process of its own, as `airflow dags test` does, which carries its triggers as well:
run_dag.py DAG_ID CONF_JSON… prints the states of each run; before a CONF_JSON may stand another DAG_ID and a space.

MARK_RUN=failed:deploy (or success:deploy) in the environment marks the last run so, as a person in the UI would, while
that task waits.
"""

import gc

gc.disable()  # looking for garbage in what is being imported would be a fifth of the whole

import json
import os
import sys
from typing import Any

from airflow.api.common.mark_tasks import set_dag_run_state_to_failed, set_dag_run_state_to_success
from airflow.dag_processing.dagbag import DagBag
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk.definitions import dag as dag_module
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

from tests import service_models

service_models.read_once()
gc.freeze()  # what was imported stays to the end
gc.enable()

MARKS = {"failed": set_dag_run_state_to_failed, "success": set_dag_run_state_to_success}


class Marked(Exception):
    """The task that waited is no longer Airflow's to go on with."""


def mark_while_waiting(state: str, task_id: str) -> None:
    """From now on that task's wait ends by the run being marked."""
    wait = dag_module._run_inline_trigger

    def marked(trigger: Any, task_sdk_ti: Any) -> Any:
        if task_sdk_ti.task_id != task_id:
            return wait(trigger, task_sdk_ti)
        with create_session() as session:
            run = session.scalar(select(DagRun).where(DagRun.run_id == task_sdk_ti.run_id))
            (waiting,) = [ti for ti in run.get_task_instances(session=session) if ti.task_id == task_id]
            waiting.set_state(TaskInstanceState.DEFERRED, session=session)
            session.flush()
            serialised = SerializedDagModel.get_dag(task_sdk_ti.dag_id, session=session)
            MARKS[state](dag=serialised, run_id=run.run_id, commit=True, session=session)
        raise Marked

    dag_module._run_inline_trigger = marked


for number, argument in enumerate(sys.argv[2:], start=3):
    other, brace, conf = argument.partition("{")
    if number == len(sys.argv) and (mark := os.environ.get("MARK_RUN")):
        mark_while_waiting(*mark.split(":"))
    # Parsed anew for each run: dag.test() leaves one run's parameters in the DAG object.
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    assert not bag.import_errors, bag.import_errors
    run = bag.dags[other.strip() or sys.argv[1]].test(run_conf=json.loads(brace + conf))
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    print("RUN " + json.dumps({"state": str(run.state), "run_id": run.run_id, "tasks": states}), flush=True)
