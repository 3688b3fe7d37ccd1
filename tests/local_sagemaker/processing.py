"""What the tests of processing jobs stand on: requests, their outputs and their lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import botocore.exceptions
import pytest

from tests.local_sagemaker.harness import BUCKET, IMAGE, ROLE, Server
from tests.local_sagemaker.serving import unique

CODE = "/opt/ml/processing/input/code"
OUT = "/opt/ml/processing/output"
GROUP = "/aws/sagemaker/ProcessingJobs"


def put(server: Server, folder: str, objects: dict[str, bytes]) -> str:
    for key, body in objects.items():
        server.s3.put_object(Bucket=BUCKET, Key=f"{folder}/{key}", Body=body)
    return f"s3://{BUCKET}/{folder}"


def source(name: str, uri: str, path: str, **changes: str) -> dict[str, Any]:
    return {"InputName": name, "S3Input": {"S3Uri": uri, "LocalPath": path, "S3DataType": "S3Prefix"} | changes}


def target(name: str, path: str = OUT, mode: str = "EndOfJob") -> dict[str, Any]:
    uri = f"s3://{BUCKET}/processed/{name}"
    return {"OutputName": "result", "S3Output": {"S3Uri": uri, "LocalPath": path, "S3UploadMode": mode}}


def job(server: Server, script: str, *arguments: str, **changes: Any) -> dict[str, Any]:
    """A request as SDK's ScriptProcessor makes it: the script is an input, and runs with python3."""
    name = unique("Proc")
    code = put(server, f"code/{name}", {"script.py": script.encode()})
    specification = {"ImageUri": IMAGE, "ContainerEntrypoint": ["python3", f"{CODE}/script.py"]}
    if arguments:
        specification["ContainerArguments"] = list(arguments)
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10}
    return {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": specification,
        "ProcessingResources": {"ClusterConfig": cluster},
        "ProcessingInputs": [source("code", f"{code}/script.py", CODE), *changes.pop("inputs", [])],
        "ProcessingOutputConfig": {"Outputs": [target(name)]},
    } | changes


def resources(**changes: Any) -> dict[str, Any]:
    return {"ProcessingResources": {"ClusterConfig": {"VolumeSizeInGB": 10, **changes}}}


def describe(server: Server, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = server.sagemaker.describe_processing_job(ProcessingJobName=name)
    return answer


def wait(server: Server, name: str) -> dict[str, Any]:
    return server.wait(lambda: describe(server, name), "ProcessingJobStatus")


def run(server: Server, request: dict[str, Any]) -> dict[str, Any]:
    server.sagemaker.create_processing_job(**request)
    return wait(server, request["ProcessingJobName"])


def outputs(server: Server, name: str) -> dict[str, bytes]:
    prefix = f"processed/{name}/"
    listed = server.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {
        item["Key"].removeprefix(prefix): server.s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
        for item in listed
    }


def lines(server: Server, name: str, host: str = "algo-1") -> list[str]:
    try:
        events = server.logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix=f"{name}/{host}-")["events"]
    except botocore.exceptions.ClientError:
        return []
    return [event["message"] for event in events]


def refusal(call: Callable[..., Any], **request: Any) -> dict[str, Any]:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**request)
    answer: dict[str, Any] = caught.value.response["Error"]
    return answer
