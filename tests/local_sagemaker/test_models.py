"""Models: what is accepted, what AWS would refuse, how they are shown."""

from __future__ import annotations

import concurrent.futures
import urllib.request
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from tests.local_sagemaker.harness import BUCKET, ROLE, Server
from tests.local_sagemaker.serving import (
    SERVING_IMAGE,
    create_config,
    create_model,
    deploy,
    invoke,
    put_model,
    unique,
    write_image_map,
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


def refusal(server: Server, operation: str, **request: Any) -> str:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        getattr(server.sagemaker, operation)(**request)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    return str(caught.value.response["Error"]["Message"])


def data_source(url: str, **members: Any) -> dict[str, Any]:
    return {"S3DataSource": {"S3Uri": url, "S3DataType": "S3Object", "CompressionType": "Gzip"} | members}


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
        ({"PrimaryContainer": {"Image": SERVING_IMAGE, "Mode": "MultiModel"}}, "Mode: local_sagemaker does not run"),
        ({"Containers": [{"Image": SERVING_IMAGE}] * 2}, "Model 'refused' has 2 containers"),
        ({}, "Model 'refused' has 0 containers"),
        ({"Containers": [{"Image": "a"}], "PrimaryContainer": {"Image": "a"}}, "PrimaryContainer and Containers"),
        (
            {"PrimaryContainer": {"Image": "a"}, "InferenceExecutionConfig": {"Mode": "Direct"}},
            "InferenceExecutionConfig: the mode Direct",
        ),
        ({"PrimaryContainer": {"Image": "a", "InferenceSpecificationName": "x"}}, "InferenceSpecificationName: it"),
        ({"PrimaryContainer": {"Image": "a", "ModelDataUrl": "https://example.com/m"}}, "Could not find model data"),
        ({"PrimaryContainer": {"Image": "a", "ModelDataUrl": f"s3://{BUCKET}"}}, "Could not find model data"),
        (
            {"PrimaryContainer": {"Image": "a", "ModelDataUrl": url, "ModelDataSource": data_source(url)}},
            "ModelDataUrl and ModelDataSource cannot both",
        ),
        (
            {"PrimaryContainer": {"Image": "a", "ModelDataSource": data_source(url, S3DataType="S3Prefix")}},
            "ModelDataSource: S3DataType S3Prefix goes with CompressionType None",
        ),
        (
            {
                "PrimaryContainer": {
                    "Image": "a",
                    "ModelDataSource": data_source(url, S3DataType="S3Prefix", CompressionType="None"),
                }
            },
            "ModelDataSource: the S3Uri",
        ),
        (
            {"PrimaryContainer": {"Image": "a", "ModelDataSource": data_source(url, ManifestS3Uri=url)}},
            "ManifestS3Uri: there are no model hubs here",
        ),
        (
            {
                "PrimaryContainer": {
                    "Image": "a",
                    "AdditionalModelDataSources": [{"ChannelName": "x", **data_source(url)}],
                }
            },
            "AdditionalModelDataSources: local_sagemaker fetches one",
        ),
        ({"PrimaryContainer": {"Image": "a b"}}, "1 validation error detected: Value 'a b' at 'primaryContainer.image"),
        (
            {"PrimaryContainer": {"Image": "a", "Environment": {"N": "v" * 1025}}},
            "1 validation error detected",
        ),
        ({"PrimaryContainer": {"Image": "a"}, "ExecutionRoleArn": "nobody"}, "2 validation errors detected"),
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


def test_model_keeps_what_has_no_effect_here(server: Server) -> None:
    """The network of a cloud account, and what names a container, are shown as given."""
    name = unique("Model")
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1", "subnet-2"]}
    container = {"Image": SERVING_IMAGE, "ContainerHostname": "first", "ImageConfig": {"RepositoryAccessMode": "Vpc"}}
    tags = [{"Key": "team", "Value": "vision"}]
    arn = server.sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, Containers=[container], VpcConfig=vpc, Tags=tags,
        InferenceExecutionConfig={"Mode": "Serial"},
    )["ModelArn"]  # fmt: skip
    described = server.sagemaker.describe_model(ModelName=name)
    assert (described["VpcConfig"], described["ExecutionRoleArn"]) == (vpc, ROLE)
    assert described["Containers"] == [{**container, "Mode": "SingleModel"}]
    assert server.sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags


def test_container_is_described_where_given(server: Server) -> None:
    """Or a client that compares, as Terraform does, makes the model anew each time."""
    name = unique("Model")
    container = {"Image": SERVING_IMAGE, "ModelDataUrl": put_model(server, version=7)}
    server.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=[container])
    described = server.sagemaker.describe_model(ModelName=name)
    assert "PrimaryContainer" not in described
    assert [one["ModelDataUrl"] for one in described["Containers"]] == [container["ModelDataUrl"]]
    endpoint = deploy(server, create_config(server, name))
    assert invoke(server, endpoint)["version"] == 7
    page = urllib.request.urlopen(f"{server.url}/jobs/model/{name}").read().decode()
    assert container["ModelDataUrl"] in page


def test_models_are_paged_in_the_order_asked_for(server: Server) -> None:
    prefix = unique("Page")
    names = [f"{prefix}-{letter}" for letter in "cabed"]
    for name in names:
        server.sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": SERVING_IMAGE})
    pages = server.sagemaker.get_paginator("list_models").paginate(
        NameContains=prefix, SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 2}
    )
    assert [[item["ModelName"] for item in page["Models"]] for page in pages] == [
        [f"{prefix}-a", f"{prefix}-b"], [f"{prefix}-c", f"{prefix}-d"], [f"{prefix}-e"],
    ]  # fmt: skip
    newest = server.sagemaker.list_models(NameContains=prefix, MaxResults=1)["Models"]
    assert newest[0]["ModelName"] == names[-1]


def test_of_many_creations_of_one_name_one_succeeds(server: Server) -> None:
    name = unique("Model")

    def create(number: int) -> str:
        try:
            server.sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": f"image:{number}"})
        except botocore.exceptions.ClientError as problem:
            return str(problem.response["Error"]["Message"])
        return "created"

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(create, range(20)))
    assert [answer for answer in answers if not answer.startswith("Cannot create already existing")] == ["created"]
    image = server.sagemaker.describe_model(ModelName=name)["PrimaryContainer"]["Image"]
    assert image == f"image:{answers.index('created')}"
