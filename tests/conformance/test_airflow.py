"""Airflow's stock SageMaker operators and sensors (amazon provider 9.39), in the worker and deferred."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerDeleteModelOperator,
    SageMakerEndpointConfigOperator,
    SageMakerEndpointOperator,
    SageMakerModelOperator,
    SageMakerProcessingOperator,
    SageMakerRegisterModelVersionOperator,
    SageMakerTrainingOperator,
    SageMakerTransformOperator,
    SageMakerTuningOperator,
)
from airflow.providers.amazon.aws.sensors.sagemaker import (
    SageMakerEndpointSensor,
    SageMakerProcessingSensor,
    SageMakerTrainingSensor,
    SageMakerTransformSensor,
    SageMakerTuningSensor,
)
from airflow.sdk.exceptions import AirflowException, TaskDeferred

from tests.conformance.programs import Outcome
from tests.conformance.target import Target
from tests.conformance.work import SERVING_IMAGE, Work
from tests.waiting import PATIENCE_S

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in-worker", "deferred"])


@pytest.fixture(autouse=True, scope="module")
def connection(target: Target) -> Iterator[None]:
    """The provider's hooks find the endpoint in the environment, as in a real installation."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in target.environment.items():
            patch.setenv(name, value)
        patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")
        yield


@pytest.fixture
def name() -> str:
    return f"airflow-{uuid4().hex[:8]}"


@pytest.fixture
def model(target: Target, work: Work, name: str) -> str:
    target.client("sagemaker").create_model(**work.model(name))
    return name


def finish(operator: Any) -> Any:
    """execute(), and every wait it defers to, as Airflow would go through them."""
    step, kwargs = "execute", {}
    while True:
        try:
            return getattr(operator, step)({}, **kwargs)
        except TaskDeferred as wait:
            step, kwargs = wait.method_name, (wait.kwargs or {}) | {"event": event_of(wait.trigger)}


def event_of(trigger: Any) -> dict[str, Any]:
    async def first() -> dict[str, Any]:
        async for event in trigger.run():
            return dict(event.payload)
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(asyncio.wait_for(first(), PATIENCE_S))


@BOTH
def test_the_training_operator_returns_a_trained_model(work: Work, name: str, deferrable: bool) -> None:
    operator = SageMakerTrainingOperator(
        task_id="train", config=work.training(name), print_log=False, check_interval=1, deferrable=deferrable
    )
    training = finish(operator)["Training"]
    assert training["TrainingJobStatus"] == "Completed"
    assert [metric["MetricName"] for metric in training["FinalMetricDataList"]] == ["train:loss"]


@BOTH
def test_a_failing_script_fails_the_training_task(work: Work, name: str, deferrable: bool) -> None:
    config = work.training(name, "broken.py")
    operator = SageMakerTrainingOperator(
        task_id="train", config=config, print_log=False, check_interval=1, deferrable=deferrable
    )
    with pytest.raises(AirflowException, match=r"train\.csv is not in the channel"):
        finish(operator)


@BOTH
def test_the_tuning_operator_returns_the_best_job(work: Work, name: str, deferrable: bool) -> None:
    operator = SageMakerTuningOperator(
        task_id="tune", config=work.tuning(name), check_interval=1, deferrable=deferrable
    )
    tuning = finish(operator)["Tuning"]
    assert tuning["HyperParameterTuningJobStatus"] == "Completed"
    assert tuning["BestTrainingJob"]["TrainingJobName"].startswith(name)


@BOTH
def test_the_processing_operator_runs_the_script(target: Target, work: Work, name: str, deferrable: bool) -> None:
    operator = SageMakerProcessingOperator(
        task_id="process", config=work.processing(name), check_interval=1, deferrable=deferrable
    )
    assert finish(operator)["Processing"]["ProcessingJobStatus"] == "Completed"
    body = target.client("s3").get_object(Bucket=work.bucket, Key=f"work/processed/{name}/seen.json")["Body"]
    assert json.load(body)["lines"] == 3


@BOTH
def test_the_transform_operator_scores_the_data(
    target: Target, work: Work, model: str, name: str, deferrable: bool
) -> None:
    operator = SageMakerTransformOperator(
        task_id="score", config=work.transform(name, model), check_interval=1, deferrable=deferrable
    )
    assert finish(operator)["Transform"]["TransformJobStatus"] == "Completed"
    body = target.client("s3").get_object(Bucket=work.bucket, Key=f"work/scored/{name}/1.json.out")["Body"]
    assert json.load(body) == [7.0, 14.0]


@BOTH
def test_the_endpoint_operator_creates_then_updates(target: Target, work: Work, name: str, deferrable: bool) -> None:
    """`create` on an endpoint that exists switches to UpdateEndpoint, told by the words of the error."""
    answers = []
    for version in ("a", "b"):
        part = f"{name}-{version}"
        SageMakerModelOperator(task_id="model", config=work.model(part)).execute({})
        SageMakerEndpointConfigOperator(task_id="config", config=work.endpoint_config(part, part)).execute({})
        operator = SageMakerEndpointOperator(
            task_id="deploy",
            config={"EndpointName": name, "EndpointConfigName": part},
            check_interval=1,
            deferrable=deferrable,
        )
        answers.append(finish(operator)["Endpoint"])
    assert [answer["EndpointConfigName"] for answer in answers] == [f"{name}-a", f"{name}-b"]
    assert {answer["EndpointStatus"] for answer in answers} == {"InService"}
    runtime, sagemaker = target.client("sagemaker-runtime"), target.client("sagemaker")
    answer = runtime.invoke_endpoint(EndpointName=name, Body=b"[1]", ContentType="application/json")
    assert json.load(answer["Body"]) == [7.0]
    sagemaker.delete_endpoint(EndpointName=name)


@pytest.mark.program("airflow/training_with_log.py")
def test_the_training_operator_prints_the_scripts_log(outcome: Outcome) -> None:
    assert outcome["status"] == "Completed"
    assert "epoch=4 train:loss=" in outcome.stdout, outcome.explain()


def test_the_register_operator_makes_versions_of_a_group(target: Target, work: Work, name: str) -> None:
    arns = [
        SageMakerRegisterModelVersionOperator(
            task_id="register",
            image_uri=SERVING_IMAGE,
            model_url=f"s3://{work.bucket}/work/model.tar.gz",
            package_group_name=name,
        ).execute({})
        for _ in range(2)
    ]
    assert [arn.rpartition("/")[2] for arn in arns] == ["1", "2"]


def test_the_delete_model_operator_deletes(target: Target, model: str) -> None:
    SageMakerDeleteModelOperator(task_id="delete", config={"ModelName": model}).execute({})
    assert target.client("sagemaker").list_models(NameContains=model)["Models"] == []


def test_sensors_wait_for_every_kind_of_job(target: Target, work: Work, model: str, name: str) -> None:
    sagemaker = target.client("sagemaker")
    sagemaker.create_training_job(**work.training(name))
    sagemaker.create_hyper_parameter_tuning_job(**work.tuning(name))
    sagemaker.create_transform_job(**work.transform(name, model))
    sagemaker.create_processing_job(**work.processing(name))
    every = {"poke_interval": 0.5, "timeout": PATIENCE_S, "task_id": "wait"}
    SageMakerTrainingSensor(job_name=name, print_log=False, **every).execute({})
    SageMakerTuningSensor(job_name=name, **every).execute({})
    SageMakerTransformSensor(job_name=name, **every).execute({})
    SageMakerProcessingSensor(job_name=name, **every).execute({})
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Completed"


def test_the_training_sensor_prints_the_log(
    target: Target, work: Work, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    target.client("sagemaker").create_training_job(**work.training(name))
    sensor = SageMakerTrainingSensor(
        job_name=name, print_log=True, task_id="wait", poke_interval=0.5, timeout=PATIENCE_S
    )
    sensor.execute({})
    assert "epoch=4 train:loss=" in "".join(capfd.readouterr())


def test_the_sensor_of_a_failed_job_fails_with_its_reason(target: Target, work: Work, name: str) -> None:
    target.client("sagemaker").create_training_job(**work.training(name, "broken.py"))
    sensor = SageMakerTrainingSensor(
        job_name=name, print_log=False, task_id="wait", poke_interval=0.5, timeout=PATIENCE_S
    )
    with pytest.raises(AirflowException, match=r"train\.csv is not in the channel"):
        sensor.execute({})


def test_the_endpoint_sensor_waits_until_it_serves(target: Target, work: Work, model: str, name: str) -> None:
    sagemaker = target.client("sagemaker")
    sagemaker.create_endpoint_config(**work.endpoint_config(name, model))
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    SageMakerEndpointSensor(endpoint_name=name, task_id="wait", poke_interval=0.5, timeout=PATIENCE_S).execute({})
    assert sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService"
    sagemaker.delete_endpoint(EndpointName=name)
