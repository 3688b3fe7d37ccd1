"""Tuning jobs against a real server: the earlier ones of a recipe, and a search that begins from them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ClientError

from retraining.environment import AWS_CONN_ID
from retraining.operators.jobs import TuningOperator
from retraining.plan import Plan, run_name
from retraining.steps.findings import inherited_trials
from retraining.tuning.history import earlier_searches
from retraining.tuning.warm_start import config
from tests.plugins.task_run import IMAGE, ROLE, archive, context, finish
from tests.waiting import wait_until

SCRIPT = "print('validation:accuracy=0.9')"

Tune = Callable[..., TuningOperator]


@pytest.fixture
def tune(sagemaker: Any, s3: Any, bucket: str) -> Tune:
    """tune(name, Member=…): the operator of a search of one trial."""
    s3.put_object(Bucket=bucket, Key="sourcedir.tar.gz", Body=archive(train_py=SCRIPT))

    def make(name: str, **members: Any) -> TuningOperator:
        lr = {"Name": "lr", "MinValue": "0.001", "MaxValue": "0.1", "ScalingType": "Auto"}
        metric = {"Name": "validation:accuracy", "Regex": "validation:accuracy=([0-9.]+)"}
        request = {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": "Bayesian",
                "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "validation:accuracy"},
                "ResourceLimits": {
                    "MaxNumberOfTrainingJobs": 1,
                    "MaxParallelTrainingJobs": 1,
                    "MaxRuntimeInSeconds": 120,
                },
                "ParameterRanges": {"ContinuousParameterRanges": [lr]},
            },
            "TrainingJobDefinition": {
                "StaticHyperParameters": {
                    "sagemaker_program": "train.py",
                    "sagemaker_submit_directory": f"s3://{bucket}/sourcedir.tar.gz",
                },
                "AlgorithmSpecification": {
                    "TrainingImage": IMAGE,
                    "TrainingInputMode": "File",
                    "MetricDefinitions": [metric],
                },
                "RoleArn": ROLE,
                "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/out"},
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
                "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            },
        }
        return TuningOperator(task_id="tune", config=request | members, aws_conn_id=AWS_CONN_ID, poll_seconds=0.1)

    return make


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid4().hex[:6]}"


def warm(*parents: str) -> dict[str, Any]:
    return config({"type": "TransferLearning", "parents": list(parents)})


def test_a_search_tells_what_it_really_began_from(sagemaker: Any, tune: Tune) -> None:
    parent, child, orphan = unique("parent"), unique("child"), unique("orphan")
    assert finish(tune(parent), context())["warm_start"] is None
    began = {"type": "TransferLearning", "parents": [parent]}
    for _ in range(2):  # the second is a cleared task
        assert finish(tune(child, **warm(parent)), context())["warm_start"] == began
    sagemaker.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName=parent)
    # The same decision, sent after the parent was deleted: a gift that is gone fails nobody.
    for _ in range(2):
        assert finish(tune(orphan, **warm(parent)), context())["warm_start"] is None


def test_the_best_of_a_stopped_search_is_used(sagemaker: Any, s3: Any, bucket: str, tune: Tune) -> None:
    """As by a person in SageMaker's console, when enough was paid."""
    name, operator = unique("stopped"), tune(unique("stopped"))
    operator.config["HyperParameterTuningJobName"] = name
    operator.config["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxNumberOfTrainingJobs"] = 3
    slow = (
        f"import os, time\n{SCRIPT}\ntime.sleep(0 if os.environ['TRAINING_JOB_NAME'].startswith('{name}-001') else 60)"
    )
    s3.put_object(Bucket=bucket, Key="sourcedir.tar.gz", Body=archive(train_py=slow))
    sagemaker.create_hyper_parameter_tuning_job(**operator.config)

    def completed() -> int:
        job = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        return int(job["TrainingJobStatusCounters"]["Completed"])

    wait_until(lambda: completed() == 1)
    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    for _ in range(2):  # the second is a cleared task
        found = finish(operator, context())
        assert (found["stopped"], found["best"][: len(name) + 4]) == ("after 1 of 3 trials", f"{name}-001")
        assert "lr" in found["hyperparameters"]


def test_a_search_stopped_before_its_first_trial_fails(sagemaker: Any, s3: Any, bucket: str, tune: Tune) -> None:
    name = unique("early")
    s3.put_object(Bucket=bucket, Key="sourcedir.tar.gz", Body=archive(train_py="import time\ntime.sleep(60)"))
    operator = tune(name)
    sagemaker.create_hyper_parameter_tuning_job(**operator.config)
    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    with pytest.raises(AirflowFailException, match=rf"Tuning job {name} is Stopped"):
        finish(operator, context())


def test_what_else_is_refused_stays_refused(sagemaker: Any, tune: Tune) -> None:
    name = unique("bad")
    operator = tune(name, **warm("nobody"))
    operator.config["HyperParameterTuningJobConfig"]["Strategy"] = "Guess"
    with pytest.raises(ClientError, match="Guess"):
        finish(operator, context())
    with pytest.raises(ClientError, match=name):
        sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def test_the_champions_search_and_then_the_newest_are_looked_at(
    sagemaker: Any, tune: Tune, make_plan: Callable[..., Plan], caplog: pytest.LogCaptureFixture
) -> None:
    recipe = unique("p")
    plan = make_plan(name=recipe)
    weeks = [run_name(recipe, datetime(2026, 11, day, tzinfo=UTC), unique("run"), "bucket") for day in (1, 8)]
    foreign = [f"{recipe}-other", f"x{weeks[0]}"[:32]]
    searches = [tune(name) for name in (*weeks, f"{weeks[0]}-g2", *foreign, plan.tuning_job)]
    for operator in searches:
        sagemaker.create_hyper_parameter_tuning_job(**operator.config)
    found = [job["HyperParameterTuningJobName"] for job in earlier_searches(sagemaker, plan, weeks[0])]
    assert found == [weeks[0], f"{weeks[0]}-g2", weeks[1]]
    assert "gone" not in caplog.text
    assert [job["HyperParameterTuningJobName"] for job in earlier_searches(sagemaker, plan, "gone")] == [
        f"{weeks[0]}-g2", weeks[1], weeks[0]
    ]  # fmt: skip
    assert "Tuning job gone cannot be looked at, so the search does not begin from it" in caplog.text
    for operator in searches:  # whose files go with the test
        finish(operator, context())


def test_who_may_not_list_tuning_jobs_has_the_champions(
    sagemaker: Any, tune: Tune, make_plan: Callable[..., Plan], caplog: pytest.LogCaptureFixture
) -> None:
    champions, forbidden = unique("c"), {"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}
    finish(tune(champions), context())

    def refuse(**_: Any) -> None:
        raise ClientError(forbidden, "ListHyperParameterTuningJobs")

    sagemaker.meta.events.register("before-call.sagemaker.ListHyperParameterTuningJobs", refuse)
    try:
        found = earlier_searches(sagemaker, make_plan(), champions)
    finally:
        sagemaker.meta.events.unregister("before-call.sagemaker.ListHyperParameterTuningJobs", refuse)
    assert [job["HyperParameterTuningJobName"] for job in found] == [champions]
    assert "cannot be listed, so a search can begin from the champion's only" in caplog.text


def test_the_trials_that_a_search_began_from_are_listed(
    sagemaker: Any, tune: Tune, caplog: pytest.LogCaptureFixture
) -> None:
    parent = unique("p")
    finish(tune(parent), context())
    (trial,) = inherited_trials(sagemaker, {"warm_start": {"parents": [parent]}})
    assert (trial["name"].startswith(parent), trial["objective"], list(trial["hyperparameters"])) == (
        True, pytest.approx(0.9), ["lr"],
    )  # fmt: skip
    assert inherited_trials(sagemaker, {"warm_start": {"parents": ["gone"]}}) == []
    assert "cannot be listed" in caplog.text
    assert inherited_trials(sagemaker, {"warm_start": None}) == []


def test_a_failed_search_is_told_without_its_trials(sagemaker: Any, tune: Tune, s3: Any, bucket: str) -> None:
    """Where the credentials may not list them."""
    s3.put_object(Bucket=bucket, Key="sourcedir.tar.gz", Body=archive(train_py="raise SystemExit(1)"))
    operator = tune(unique("vain"))
    said = {"Code": "AccessDeniedException", "Message": "not authorized to perform: sagemaker:ListTrainingJobsFor…"}

    def deny(params: dict[str, Any], **_: Any) -> None:
        raise ClientError({"Error": said}, "ListTrainingJobsForHyperParameterTuningJob")

    event = "provide-client-params.sagemaker.ListTrainingJobsForHyperParameterTuningJob"
    operator.hook.conn.meta.events.register(event, deny)
    try:
        with pytest.raises(AirflowFailException, match=r"(?s)is Failed: .*cannot be listed \(AccessDeniedException\)"):
            finish(operator, context())
    finally:
        operator.hook.conn.meta.events.unregister(event, deny)
