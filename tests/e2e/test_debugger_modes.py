"""One training watched in every mode: by SageMaker Debugger, by this package, and by whichever the account can have.

The tasks are the DAG's own, run one after the other in this process; only the search for hyperparameters is left out.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# Before anything imports airflow, and only where no conftest has already done so.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-test-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__PLUGINS_FOLDER", str(Path(__file__).parents[2] / "plugins"))

from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from retraining import steps
from retraining.debugger.memory import KEY
from retraining.debugger.mode import MANAGED_MEMBERS
from retraining.recipe import load_recipe
from retraining.requests.debugger import rule_output_key
from retraining.run import Run
from retraining.steps import task_requests as task_requests
from tests.e2e.laptop import BUCKET, Laptop
from tests.local_sagemaker.harness import REPOSITORY, Server
from tests.object_store import delete_bucket, free_ports
from tests.plugins.task_run import TaskInstance, finish

pytestmark = pytest.mark.slow

WATCHED = ("preflight", "sync_dataset", "package_source", "tune", "train", "evaluate_rules", "debugger_verdict")


class Facts(TaskInstance):
    """The XComs of one run, for the task that is on."""

    def __init__(self) -> None:
        super().__init__()
        self.task, self.known = "", {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.known[self.task, key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.known.get((task_ids, key))


class DagRun:
    """One run of retrain_tiny, task by task."""

    def __init__(self, laptop: Laptop, dag: Any, run_id: str, **form: Any) -> None:
        self.recipe, self.dag, self.facts = load_recipe(laptop.recipe), dag, Facts()
        dag_run = SimpleNamespace(run_after=datetime(2026, 11, 21, 3, tzinfo=UTC), run_id=run_id)
        self.context: Any = {"ti": self.facts, "params": dag.params.dump() | form, "dag_run": dag_run, "dag": dag}

    @property
    def view(self) -> Run:
        return Run(self.recipe, self.context)

    def task(self, name: str) -> Any:
        """An operator of the DAG, its request rendered."""
        self.facts.task = name
        operator = copy.deepcopy(self.dag.get_task(name))
        operator.render_template_fields(self.context)
        return operator

    def run(self, name: str) -> Any:
        self.facts.task = name
        try:
            if name == "tune":
                result = self.chosen()
            elif body := getattr(steps, name, None):
                result = body(self.view)
            else:
                result = finish(self.task(name), self.context)
        except AirflowSkipException:
            return None
        self.facts.xcom_push("return_value", result)
        return result

    def watched(self) -> list[dict[str, str]]:
        """Everything to the verdicts of the rules."""
        return [self.run(task) for task in WATCHED][-1]  # type: ignore[no-any-return]

    def chosen(self) -> dict[str, Any]:
        """What `tune` would hand on, made short."""
        static = task_requests.tuning_request(self.view)["TrainingJobDefinition"]["StaticHyperParameters"]
        best = {name: value for name, value in static.items() if not name.startswith("sagemaker_")}
        return {"hyperparameters": best | {"lr": "0.001", "epochs": "2", "serving": "torch"}}

    def evidence(self, laptop: Laptop, rule: str) -> Any:
        """What a rule told beside its status."""
        key = f"{rule_output_key(self.view.plan, self.facts.xcom_pull('train')['name'])}/{rule}/verdict.json"
        return json.loads(laptop.server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())["Evidence"]


@contextmanager
def stack(folder: Path, s3_endpoint: str, **environment: str) -> Iterator[tuple[Laptop, Any]]:
    from airflow.dag_processing.dagbag import DagBag

    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        server = Server(folder / "sagemaker", free_ports(1)[0], s3_endpoint, REPOSITORY / "stack/images.toml")
        laptop = Laptop(folder, server)
        for name, value in laptop.environment.items():
            if not name.startswith("AIRFLOW_"):  # this process has an Airflow already
                patched.setenv(name, value)
        patched.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")
        patched.setenv("RETRAINING_POLL_SECONDS", "0.2")
        server.start()
        try:
            server.s3.create_bucket(Bucket=BUCKET)
            yield laptop, DagBag(str(laptop.dags)).dags["retrain_tiny"]
        finally:
            server.stop()
            delete_bucket(server.s3, BUCKET)  # the store is the session's, and the next stack makes it again


def test_both_modes_find_the_same_and_report_at_the_same_place(tmp_path: Path, s3_endpoint: str) -> None:
    with stack(tmp_path, s3_endpoint) as (laptop, dag):
        managed = DagRun(laptop, dag, "managed", debugger="managed")
        ours = DagRun(laptop, dag, "self-hosted", debugger="self_hosted")
        theirs_found, ours_found = managed.watched(), ours.watched()
        assert managed.facts.xcom_pull("train")["debugger"] == "managed"
        assert (managed.facts.xcom_pull("evaluate_rules"), ours.facts.xcom_pull("train")["debugger"]) == (
            None,
            "self_hosted",
        )
        # The profiler's verdict is about the machine, which may have had more to do a minute later.
        assert [rule["rule"] for rule in ours_found] == [rule["rule"] for rule in theirs_found]
        assert ours_found[:-1] == theirs_found[:-1]
        assert {rule["rule"]: rule["status"] for rule in ours_found[:-1]} == {
            "LossNotDecreasing": "IssuesFound",
            "VanishingGradient": "NoIssuesFound",
        }
        assert "Error" not in {ours_found[-1]["status"], theirs_found[-1]["status"]}
        for rule in ("LossNotDecreasing", "VanishingGradient"):
            assert ours.evidence(laptop, rule) == managed.evidence(laptop, rule)
        reports = [run.run("profiler_report") for run in (managed, ours)]
        for run, report in zip((managed, ours), reports, strict=True):
            assert report["html"] == f"s3://{BUCKET}/{run.view.plan.run_key}/profiler-report.html"
        assert reports[0].keys() == reports[1].keys()
        assert reports[0]["usage"].keys() == reports[1]["usage"].keys()
        assert isinstance(reports[1]["waiting_percent"], float)


def test_auto_falls_back_once_and_remembers(tmp_path: Path, s3_endpoint: str, caplog: pytest.LogCaptureFixture) -> None:
    with stack(tmp_path, s3_endpoint, LOCAL_SAGEMAKER_DEBUGGER="closed") as (laptop, dag):
        first = DagRun(laptop, dag, "first")
        found = first.watched()
        assert first.facts.xcom_pull("preflight")["debugger"]["mode"] == "managed"
        assert first.facts.xcom_pull("train")["debugger"] == "self_hosted"
        assert {rule["rule"]: rule["status"] for rule in found}["LossNotDecreasing"] == "IssuesFound"
        memory = json.loads(laptop.server.s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read())
        assert (memory["mode"], memory["format"]) == ("self_hosted", 1)

        second = DagRun(laptop, dag, "second")
        for task in WATCHED[:4]:
            second.run(task)
        decided = second.facts.xcom_pull("preflight")["debugger"]
        assert decided["mode"] == "self_hosted"
        assert "closed to new customers" in decided["reason"]
        train = second.task("train")
        assert not {*MANAGED_MEMBERS, "ProfilerConfig"} & train.config.keys()
        with pytest.raises(TaskDeferred) as wait:
            train.execute(second.context)
        asyncio.run(wait.value.trigger.on_kill())

        # Preflight said how to have it forgotten.
        assert f"aws s3 rm s3://{BUCKET}/{KEY}" in caplog.text
        laptop.server.s3.delete_object(Bucket=BUCKET, Key=KEY)
        third = DagRun(laptop, dag, "third")
        assert third.run("preflight")["debugger"]["mode"] == "managed"
