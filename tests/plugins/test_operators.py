"""The operators and the trigger against a real server: what a crash, a kill, a failure and a rollback leave behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from retraining.environment import AWS_CONN_ID
from retraining.operators.endpoint import DeployOperator, RollbackOperator
from retraining.operators.register import RegisterOperator
from retraining.operators.resources import ModelOperator
from retraining.operators.training import TrainingOperator
from retraining.triggers import SageMakerJobTrigger
from tests.plugins.task_run import IMAGE, ROLE, archive, context, finish, wait_for


def jobs(sagemaker: Any, operator: TrainingOperator) -> list[str]:
    name = operator.config["TrainingJobName"]
    return [job["TrainingJobName"] for job in sagemaker.list_training_jobs(NameContains=name)["TrainingJobSummaries"]]


def test_a_second_attempt_adopts_the_job_of_the_first(sagemaker: Any, training: Any) -> None:
    operator = training("import time; time.sleep(2)")
    with pytest.raises(TaskDeferred):
        operator.execute(context())  # and here the worker dies
    record = finish(operator, context())
    assert record["model_data_url"].endswith("/output/model.tar.gz")
    assert jobs(sagemaker, operator) == [record["name"]]


def test_a_cleared_task_reuses_a_completed_job(sagemaker: Any, training: Any) -> None:
    operator = training("print('quick')")
    first = finish(operator, context())
    assert operator.execute(context()) == first
    assert len(jobs(sagemaker, operator)) == 1


def test_a_failed_job_tells_reason_and_last_lines_and_is_not_repeated(sagemaker: Any, training: Any) -> None:
    operator = training("print('the last words')\nraise RuntimeError('no such layer')")
    for _ in range(2):
        with pytest.raises(AirflowFailException, match=r"(?s)is Failed: .*no such layer.*the last words") as failure:
            finish(operator, context())
    assert "trigger a new run" in str(failure.value)
    assert len(jobs(sagemaker, operator)) == 1


def test_cancelling_the_wait_stops_the_job(sagemaker: Any, training: Any) -> None:
    operator, ctx = training("import time; time.sleep(50)"), context()
    with pytest.raises(TaskDeferred) as wait:
        operator.execute(ctx)
    asyncio.run(wait.value.trigger.on_kill())
    with pytest.raises(AirflowFailException, match="is Stopped"):
        finish(operator, ctx)


def test_a_dying_worker_does_not_stop_the_job(sagemaker: Any, training: Any) -> None:
    operator = training("import time; time.sleep(2)")
    with pytest.raises(TaskDeferred):
        operator.execute(context())
    operator.on_kill()
    assert finish(operator, context())["name"] == operator.config["TrainingJobName"]


def test_past_the_deadline_the_job_is_stopped(sagemaker: Any, training: Any) -> None:
    operator, ctx = training("import time; time.sleep(50)"), context()
    with pytest.raises(TaskDeferred) as wait:
        operator.execute(ctx)
    _, arguments = wait.value.trigger.serialize()
    event = wait_for(SageMakerJobTrigger(**arguments | {"deadline": time.time() + 0.5}))
    assert event["status"] == "Deadline"
    with pytest.raises(AirflowFailException, match="had not ended by its deadline and was asked to stop"):
        operator.execute_complete(ctx, event)
    with pytest.raises(AirflowFailException, match="is Stopped"):
        finish(operator, ctx)


def test_the_trigger_notices_a_job_that_does_not_exist(sagemaker: Any) -> None:
    trigger = SageMakerJobTrigger("training", "never-made", time.time() + 60, 0.1, AWS_CONN_ID)
    assert wait_for(trigger) == {"name": "never-made", "status": "Missing"}


def test_nothing_to_do_is_skipped(sagemaker: Any) -> None:
    with pytest.raises(AirflowSkipException):
        TrainingOperator(task_id="train", config={}, aws_conn_id=AWS_CONN_ID).execute(context())


@pytest.fixture
def release(sagemaker: Any, s3: Any, bucket: str) -> Callable[..., str]:
    """release(name, …files): a model and its endpoint configuration, both called `name`."""

    def make(name: str, **files: str) -> str:
        s3.put_object(Bucket=bucket, Key=f"{name}.tar.gz", Body=archive(**files or {"weights": "1"}))
        container = {"Image": IMAGE, "ModelDataUrl": f"s3://{bucket}/{name}.tar.gz"}
        config = {"ModelName": name, "ExecutionRoleArn": ROLE, "PrimaryContainer": container}
        for _ in range(2):  # as after a retry
            assert ModelOperator(task_id="m", config=config, aws_conn_id=AWS_CONN_ID).execute(context())["name"] == name
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": name,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
        }
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        return name

    return make


def deploy(endpoint: str, config: str) -> Any:
    request = {"EndpointName": endpoint, "EndpointConfigName": config}
    operator = DeployOperator(task_id="deploy", config=request, aws_conn_id=AWS_CONN_ID, poll_seconds=0.1)
    return finish(operator, context())


def test_an_endpoint_is_created_updated_and_left_alone(sagemaker: Any, release: Any) -> None:
    name = f"ep-{uuid4().hex[:8]}"
    for config in (release(f"{name}-a"), release(f"{name}-b"), f"{name}-b"):
        assert deploy(name, config)["config"] == config
        assert sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"] == config


def test_an_update_that_was_rolled_back_is_a_failure(sagemaker: Any, release: Any) -> None:
    name = f"ep-{uuid4().hex[:8]}"
    good, bad = release(f"{name}-a"), release(f"{name}-b", refuses="yes")
    deploy(name, good)
    with pytest.raises(AirflowFailException, match=rf"asked to serve {bad} and serves {good}: SageMaker rolled"):
        deploy(name, bad)


def rollback(endpoint: str, failed: str, champion: str | None) -> Any:
    request = {"EndpointName": endpoint, "EndpointConfigName": champion, "Failed": failed}
    operator = RollbackOperator(task_id="rollback", config=request, aws_conn_id=AWS_CONN_ID, poll_seconds=0.1)
    return finish(operator, context())


def test_rollback_returns_to_the_champion(sagemaker: Any, release: Any) -> None:
    name = f"ep-{uuid4().hex[:8]}"
    champion, failed = release(f"{name}-a"), release(f"{name}-b")
    deploy(name, champion)
    deploy(name, failed)
    assert rollback(name, failed, champion)["config"] == champion
    with pytest.raises(AirflowSkipException, match="nothing to roll back"):
        rollback(name, failed, champion)


def test_registering_twice_is_one_version(sagemaker: Any, bucket: str) -> None:
    group = f"group-{uuid4().hex[:8]}"
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{bucket}/model.tar.gz"}
    package = {
        "ModelPackageGroupName": group,
        "InferenceSpecification": {"Containers": [container], "SupportedContentTypes": ["image/png"]},
        "CustomerMetadataProperties": {"run_name": "one"},
    }
    config = {"Group": {"ModelPackageGroupName": group}, "Package": package}
    operator = RegisterOperator(task_id="register", config=config, aws_conn_id=AWS_CONN_ID)  # type: ignore[arg-type]
    assert operator.execute(context()) == operator.execute(context())
    assert len(sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]) == 1
