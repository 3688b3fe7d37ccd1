"""Tasks run as Airflow would run them, without Airflow: their waits are carried in this process."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from typing import Any

from airflow.sdk.exceptions import TaskDeferred

from retraining.creation import create_once
from tests.waiting import PATIENCE_S

ROLE = "arn:aws:iam::000000000000:role/local-sagemaker"
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.0.1-cpu-py310"


class TaskInstance:
    """What an operator uses of Airflow's task instance: a place for XComs."""

    map_index = -1

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        """What other tasks left: nothing, for this one is alone."""
        return None


def context() -> Any:
    return {"ti": TaskInstance(), "params": {}}


def have_model(sagemaker: Any, s3: Any, name: str, bucket: str) -> None:
    """A Model of this name, whatever it is made of."""
    s3.put_object(Bucket=bucket, Key="any.tar.gz", Body=archive(weights="1"))
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{bucket}/any.tar.gz"}
    request = {"ModelName": name, "ExecutionRoleArn": ROLE, "PrimaryContainer": container}
    create_once(sagemaker.create_model, request)


def start_job(sagemaker: Any, s3: Any, name: str, bucket: str) -> None:
    """A training job that is at work until it is stopped, or for five minutes."""
    s3.put_object(Bucket=bucket, Key="wait.tar.gz", Body=archive(wait_py="import time\ntime.sleep(300)\n"))
    sagemaker.create_training_job(
        TrainingJobName=name, RoleArn=ROLE,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        HyperParameters={
            "sagemaker_program": json.dumps("wait.py"),
            "sagemaker_submit_directory": json.dumps(f"s3://{bucket}/wait.tar.gz"),
        },
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 300},
    )  # fmt: skip


def archive(**files: str) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name.replace("_py", ".py"))
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return body.getvalue()


def wait_for(trigger: Any) -> dict[str, Any]:
    """The event of a trigger, as the triggerer would deliver it."""

    async def first() -> Any:
        async for event in trigger.run():
            return event.payload

    return asyncio.run(asyncio.wait_for(first(), PATIENCE_S))


def finish(operator: Any, ctx: Any) -> Any:
    """execute(), and every wait it defers to, as Airflow would go through them."""
    step, kwargs = "execute", {}
    while True:
        try:
            return getattr(operator, step)(ctx, **kwargs)
        except TaskDeferred as wait:
            step, kwargs = wait.method_name, (wait.kwargs or {}) | {"event": wait_for(wait.trigger)}
