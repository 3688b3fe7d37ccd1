"""Runs one DAG to its end in a process of its own: run_dag.py DAG_ID CONF_JSON… prints the states of each run."""

import json
import os
import sys

from airflow.dag_processing.dagbag import DagBag

for conf in sys.argv[2:]:
    # Parsed anew for each run: dag.test() leaves one run's parameters in the DAG object.
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    assert not bag.import_errors, bag.import_errors
    run = bag.dags[sys.argv[1]].test(run_conf=json.loads(conf))
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    print("RUN " + json.dumps({"state": str(run.state), "run_id": run.run_id, "tasks": states}), flush=True)
