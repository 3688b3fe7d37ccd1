"""The operators and the trigger against a real server: what a crash, a kill, a failure and a rollback leave behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from retraining.environment import AWS_CONN_ID
from retraining.operators.register import RegisterOperator
from retraining.operators.training import TrainingOperator
from retraining.triggers import SageMakerJobTrigger
from tests.plugins.task_run import IMAGE, context, finish, wait_for


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


def test_a_job_that_ended_unseen_is_found_after_its_deadline(sagemaker: Any, training: Any) -> None:
    """Airflow was away for longer than the wait may last."""
    operator = training("print('quick')")
    with pytest.raises(TaskDeferred) as wait:
        operator.execute(context())
    wait_for(wait.value.trigger)
    _, arguments = wait.value.trigger.serialize()
    assert wait_for(SageMakerJobTrigger(**arguments | {"deadline": time.time() - 60}))["status"] == "Completed"


def test_the_trigger_notices_a_job_that_does_not_exist(sagemaker: Any) -> None:
    trigger = SageMakerJobTrigger("training", "never-made", time.time() + 60, 0.1, AWS_CONN_ID)
    assert wait_for(trigger) == {"name": "never-made", "status": "Missing"}


def test_nothing_to_do_is_skipped(sagemaker: Any) -> None:
    with pytest.raises(AirflowSkipException):
        TrainingOperator(task_id="train", config={}, aws_conn_id=AWS_CONN_ID).execute(context())


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


def test_cancelling_a_wait_for_what_has_ended_is_no_error(sagemaker: Any, training: Any) -> None:
    operator = training("print('quick')")
    with pytest.raises(TaskDeferred) as wait:
        operator.execute(context())
    wait_for(wait.value.trigger)
    asyncio.run(wait.value.trigger.on_kill())
