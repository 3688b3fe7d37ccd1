"""What was billed is what SageMaker's own answers say, and nothing is made up where they say nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from retraining.cost.billing import billed, instance_seconds
from retraining.cost.paid_jobs import bill, paid_jobs
from retraining.plan import Plan
from tests.plugins.task_run import context, finish

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def training(seconds: int | None, *, kind: str = "ml.m5.xlarge", count: int = 1, **members: Any) -> dict[str, Any]:
    job = {"TrainingJobName": "t", "ResourceConfig": {"InstanceType": kind, "InstanceCount": count}}
    return job | ({} if seconds is None else {"BillableTimeInSeconds": seconds}) | members


def transform(seconds: float, count: int = 1) -> dict[str, Any]:
    return {
        "TransformJobName": "s",
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": count},
        "TransformStartTime": NOON,
        "TransformEndTime": NOON + timedelta(seconds=seconds),
    }


@pytest.mark.parametrize(
    ("job", "seconds"),
    [
        (training(100), 100),
        (training(100, count=3), 300),
        (training(100, count=2, WarmPoolStatus={"ResourceRetainedBillableTimeInSeconds": 50}), 300),
        # Spot: an hour of training, of which a third was billed.
        (training(1200, TrainingStartTime=NOON, TrainingEndTime=NOON + timedelta(hours=1)), 1200),
        (training(None), 0),  # it failed before it had a machine
        (training(None, TrainingStartTime=NOON, TrainingEndTime=NOON + timedelta(seconds=7)), 7),
        (training(None, TrainingStartTime=NOON), 0),  # it is in progress
        (transform(61.2), 62),
        (transform(60, count=2), 120),
        ({"TransformJobName": "s", "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1}}, 0),
        (
            {
                "ProcessingJobName": "p",
                "ProcessingResources": {"ClusterConfig": {"InstanceType": "ml.t3.medium", "InstanceCount": 1}},
                "ProcessingStartTime": NOON,
                "ProcessingEndTime": NOON + timedelta(seconds=30),
            },
            30,
        ),
    ],
)
def test_instance_seconds_of_one_job(job: dict[str, Any], seconds: int) -> None:
    assert instance_seconds(job)[1] == seconds


def test_a_bill_adds_up_by_task_and_type() -> None:
    jobs = {
        "tune": [training(100), training(200)],
        "train": [training(60, kind="ml.g5.xlarge")],
        "evaluate_rules": [],
        "score_candidate": [transform(36)],
    }
    found = billed(jobs, {"ml.m5.xlarge": 0.36, "ml.g5.xlarge": 1.2, "ml.m5.large": 0.1})
    assert found["instance_seconds"] == {"ml.m5.xlarge": 300, "ml.g5.xlarge": 60, "ml.m5.large": 36}
    assert found["usd"] == 0.051
    assert found["tasks"][0] == {"task": "tune", "jobs": 2, "instance_type": "ml.m5.xlarge", "instance_seconds": 300}
    assert sum(task["instance_seconds"] for task in found["tasks"]) == sum(found["instance_seconds"].values())


def test_without_a_price_for_each_type_there_are_no_usd() -> None:
    assert billed({"tune": [training(100)]}, {})["usd"] is None
    assert billed({"tune": [training(100)], "train": [transform(1)]}, {"ml.m5.xlarge": 1.0})["usd"] is None


def test_the_jobs_of_a_failed_task_are_on_the_bill(sagemaker: Any, training: Any, make_plan: Any) -> None:
    """Found by the run's names, as no record was left."""
    operator, plan = training("raise SystemExit(3)"), make_plan()
    operator.config["TrainingJobName"] = plan.training_job
    with pytest.raises(Exception, match="is Failed"):
        finish(operator, context())
    run: Any = SimpleNamespace(plan=plan, sagemaker=sagemaker, recipe=plan.recipe)
    found = {task: len(jobs) for task, jobs in paid_jobs(run).items()}
    assert found == {"tune": 0, "train": 1, "evaluate_rules": 0, "score_candidate": 0, "score_champion": 0}
    run.plan = make_plan(deployment={"shadow": {}}, capture={"percent": 10})
    assert paid_jobs(run).keys() - found == {"shadow_candidate", "shadow_champion"}
    (row,) = (bill(run) or {})["tasks"]
    job = sagemaker.describe_training_job(TrainingJobName=plan.training_job)
    assert row["instance_seconds"] == job["BillableTimeInSeconds"] > 0


def test_a_bill_that_cannot_be_had_is_no_reason_to_have_no_report(make_plan: Any) -> None:
    class Forbidden:
        def __getattr__(self, operation: str) -> Any:
            def refuse(**members: Any) -> None:
                raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, operation)

            return refuse

    plan: Plan = make_plan()
    run: Any = SimpleNamespace(plan=plan, sagemaker=Forbidden(), recipe=plan.recipe)
    assert bill(run) is None
