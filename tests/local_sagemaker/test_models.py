"""Models: what is accepted, what AWS would refuse, how they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from tests.local_sagemaker.harness import BUCKET, ROLE, Server
from tests.local_sagemaker.serving import SERVING_IMAGE, create_model, put_model, unique, write_image_map


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


def refusal(server: Server, operation: str, **request: Any) -> str:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        getattr(server.sagemaker, operation)(**request)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    return str(caught.value.response["Error"]["Message"])


def test_model_is_described_as_aws_does(server: Server) -> None:
    name, url = unique("Model"), put_model(server, version=1)
    container = {"Image": SERVING_IMAGE, "ModelDataUrl": url, "Environment": {"SAGEMAKER_PROGRAM": "inference.py"}}
    answer = server.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    assert answer["ModelArn"] == f"arn:aws:sagemaker:us-east-1:000000000000:model/{name.lower()}"
    described = server.sagemaker.describe_model(ModelName=name)
    assert described["PrimaryContainer"] == {
        **container,
        "Mode": "SingleModel",
        "ModelDataSource": {"S3DataSource": {"S3Uri": url, "S3DataType": "S3Object", "CompressionType": "Gzip"}},
    }
    assert described["EnableNetworkIsolation"] is False


def test_model_data_source_is_accepted(server: Server) -> None:
    source = {"S3Uri": put_model(server, version=1), "S3DataType": "S3Object", "CompressionType": "Gzip"}
    container = {"Image": SERVING_IMAGE, "ModelDataSource": {"S3DataSource": source}}
    name = unique("Model")
    server.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    assert server.sagemaker.describe_model(ModelName=name)["PrimaryContainer"] == {**container, "Mode": "SingleModel"}


def test_unusable_models_are_refused(server: Server) -> None:
    url = put_model(server, version=1)
    missing = f"s3://{BUCKET}/nowhere/model.tar.gz"
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"PrimaryContainer": {"Image": SERVING_IMAGE, "ModelDataUrl": missing}},
            f"Could not find model data at {missing}",
        ),
        ({"PrimaryContainer": {"ModelDataUrl": url}}, "Image: a container must have"),
        ({"PrimaryContainer": {"Image": SERVING_IMAGE, "Mode": "MultiModel"}}, "Mode: local_sagemaker does not yet"),
        ({"Containers": [{"Image": SERVING_IMAGE}] * 2}, "Model 'refused' has 2 containers"),
        ({"PrimaryContainer": {"ModelPackageName": "none"}}, "ModelPackage none does not exist"),
    ]
    for request, message in cases:
        assert refusal(server, "create_model", ModelName="refused", **request).startswith(message)
    assert refusal(server, "describe_model", ModelName="refused").startswith('Could not find model "arn:')


def test_name_is_taken_once(server: Server) -> None:
    name = create_model(server, version=1)
    message = refusal(server, "create_model", ModelName=name, PrimaryContainer={"Image": SERVING_IMAGE})
    assert message.startswith("Cannot create already existing model ")


def test_models_are_listed_and_deleted(server: Server) -> None:
    name = create_model(server, version=1)
    assert [item["ModelName"] for item in server.sagemaker.list_models(NameContains=name)["Models"]] == [name]
    server.sagemaker.delete_model(ModelName=name)
    assert server.sagemaker.list_models(NameContains=name)["Models"] == []
    assert refusal(server, "delete_model", ModelName=name).startswith('Could not find model "arn:')
