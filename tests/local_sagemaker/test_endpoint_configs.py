"""Endpoint configurations: kept as they were given, and refused when no endpoint could be made of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.local_sagemaker.harness import REPOSITORY, ROLE, Server, error
from tests.local_sagemaker.serving import (
    SERVING_IMAGE,
    create_config,
    create_model,
    deploy,
    invoke,
    put_model,
    unique,
    wait_endpoint,
    write_image_map,
)

CAPTURE = {
    "EnableCapture": True, "InitialSamplingPercentage": 50, "DestinationS3Uri": "s3://b/c",
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
}  # fmt: skip
ASYNCHRONOUS = {"OutputConfig": {"S3OutputPath": "s3://b/out"}}
POOLS = [{"InstanceType": "ml.m5.large", "Priority": 1}]
SERVERLESS = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def model(server: Server) -> str:
    return create_model(server, version=1)


def variant(model: str, **changes: Any) -> dict[str, Any]:
    """With instances; a change to None leaves a member out."""
    whole = {"VariantName": "v", "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    return {key: value for key, value in (whole | changes).items() if value is not None}


def serverless(model: str, **changes: Any) -> dict[str, Any]:
    return variant(model, InstanceType=None, InitialInstanceCount=None, ServerlessConfig=SERVERLESS | changes)


def test_config_is_described_listed_and_deleted(server: Server, model: str) -> None:
    name = create_config(server, model, DataCaptureConfig=CAPTURE, AsyncInferenceConfig=ASYNCHRONOUS)
    answer = server.sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert answer["ProductionVariants"][0]["ModelName"] == model
    assert (answer["DataCaptureConfig"], answer["AsyncInferenceConfig"]) == (CAPTURE, ASYNCHRONOUS)
    listed = server.sagemaker.list_endpoint_configs(NameContains=name)["EndpointConfigs"]
    assert [item["EndpointConfigArn"] for item in listed] == [answer["EndpointConfigArn"]]
    server.sagemaker.delete_endpoint_config(EndpointConfigName=name)
    for call in (server.sagemaker.describe_endpoint_config, server.sagemaker.delete_endpoint_config):
        problem = error(lambda call=call: call(EndpointConfigName=name))  # type: ignore[misc]
        assert problem["Code"] == "ValidationException"
        assert problem["Message"].startswith('Could not find endpoint configuration "arn:')


def test_what_has_no_effect_is_kept_and_named(server: Server, model: str) -> None:
    """An endpoint that is moved to AWS will behave otherwise there: the README says by which members."""
    idle = {
        "AcceleratorType": "ml.eia1.medium",
        "CapacityReservationConfig": {"CapacityReservationPreference": "capacity-reservations-only"},
        "CoreDumpConfig": {"DestinationS3Uri": "s3://b/c"},
        "EnableSSMAccess": True,
        "InferenceAmiVersion": "al2-ami-sagemaker-inference-gpu-2",
        "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 2},
        "ModelDataDownloadTimeoutInSeconds": 60,
        "RoutingConfig": {"RoutingStrategy": "RANDOM"},
        "VolumeSizeInGB": 10,
    }
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    members = {"ExecutionRoleArn": ROLE, "KmsKeyId": "k", "MetricsConfig": {}, "VpcConfig": vpc}
    name, given = unique("c"), variant(model, **idle)
    server.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[given], **members)
    described = server.sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert described["ProductionVariants"] == [given | {"InitialVariantWeight": 1.0}]
    assert {key: described[key] for key in members} == members
    readme = (REPOSITORY / "local_sagemaker/README.md").read_text()
    told = readme.partition("without effect: ")[2].partition("\n- ")[0]
    assert [member for member in (*idle, *members) if member not in told] == []


def test_name_is_taken_once(server: Server, model: str) -> None:
    name = create_config(server, model)
    call = {"EndpointConfigName": name, "ProductionVariants": [variant(model)]}
    problem = error(lambda: server.sagemaker.create_endpoint_config(**call))
    assert problem["Message"].startswith('Cannot create already existing endpoint configuration "arn:')


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: {"ProductionVariants": [variant("none")]}, "Could not find model"),
        (lambda m: {"ProductionVariants": [variant(m), variant(m)]}, "Production variant names must be unique"),
        (lambda m: {"ProductionVariants": [variant(m, InitialInstanceCount=None)]}, "must have either InstanceType"),
        (lambda m: {"ProductionVariants": [variant(m, ServerlessConfig=SERVERLESS)]}, "must have either InstanceType"),
        (
            lambda m: {"ProductionVariants": [variant(m, InstanceType=None, InstancePools=POOLS)]},
            "one instance type for all instances of a variant",
        ),
        (lambda m: {"ProductionVariants": [variant(m, ModelName=None)]}, "inference components are not implemented"),
        (
            lambda m: {"ProductionVariants": [variant(m)], "ShadowProductionVariants": [variant(m, VariantName="s")]},
            "does not implement shadow variants",
        ),
        (
            lambda m: {"ProductionVariants": [serverless(m), variant(m, VariantName="w")]},
            "a serverless variant has exactly one variant",
        ),
        (lambda m: {"ProductionVariants": [serverless(m, MemorySizeInMB=1500)]}, "must be a multiple of 1024"),
        (lambda m: {"ProductionVariants": [serverless(m, ProvisionedConcurrency=6)]}, "at most MaxConcurrency (5)"),
        (
            lambda m: {"ProductionVariants": [serverless(m)], "DataCaptureConfig": CAPTURE},
            "a serverless variant is sent cannot be captured",
        ),
        (
            lambda m: {"ProductionVariants": [serverless(m)], "AsyncInferenceConfig": ASYNCHRONOUS},
            "serverless variant cannot be invoked asynchronously",
        ),
        (
            lambda m: {
                "ProductionVariants": [variant(m), variant(m, VariantName="w")],
                "AsyncInferenceConfig": ASYNCHRONOUS,
            },
            "An asynchronous endpoint has exactly one production variant, got v, w",
        ),
        (
            lambda m: {"ProductionVariants": [variant(m)], "AsyncInferenceConfig": {"OutputConfig": {}}},
            "needs an S3OutputPath",
        ),
        (
            lambda m: {
                "ProductionVariants": [variant(m)],
                "DataCaptureConfig": CAPTURE | {"CaptureOptions": [{"CaptureMode": "Input"}] * 2},
            },
            "has a CaptureMode twice",
        ),
    ],
)
def test_config_that_cannot_serve_is_refused_in_words(
    server: Server, model: str, make: Callable[[str], dict[str, Any]], message: str
) -> None:
    name = unique("Config")
    problem = error(lambda: server.sagemaker.create_endpoint_config(EndpointConfigName=name, **make(model)))
    assert problem["Code"] == "ValidationException"
    assert message in problem["Message"]
    error(lambda: server.sagemaker.describe_endpoint_config(EndpointConfigName=name))


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace is sure only for root")
def test_configuration_can_take_the_network_away(server: Server, model: str) -> None:
    """Whatever its models say by themselves."""
    ours = os.readlink("/proc/self/ns/net")
    open_, isolated = create_config(server, model), create_config(server, model, EnableNetworkIsolation=True)
    assert server.sagemaker.describe_endpoint_config(EndpointConfigName=isolated)["EnableNetworkIsolation"] is True
    name = deploy(server, open_)
    assert invoke(server, name)["network"] == ours
    server.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=isolated)
    assert wait_endpoint(server, name)["EndpointConfigName"] == isolated
    assert invoke(server, name)["network"] != ours


def test_isolation_that_cannot_be_kept_is_refused(make_server: Callable[..., Server]) -> None:
    strict = make_server("--isolation", "off")
    model = create_model(strict, version=1)
    problem = error(lambda: create_config(strict, model, EnableNetworkIsolation=True))
    assert "--relax-network-isolation" in problem["Message"]


def test_serverless_variant_takes_no_model_data_source(server: Server, model: str) -> None:
    """SageMaker says so of ModelDataSource; where the artifact was given as ModelDataUrl, nothing changes."""
    sourced = unique("Model")
    source = {"S3Uri": put_model(server, version=1), "S3DataType": "S3Object", "CompressionType": "Gzip"}
    container = {"Image": SERVING_IMAGE, "ModelDataSource": {"S3DataSource": source}}
    server.sagemaker.create_model(ModelName=sourced, ExecutionRoleArn=ROLE, PrimaryContainer=container)

    def create(variant: dict[str, Any]) -> Any:
        return server.sagemaker.create_endpoint_config(EndpointConfigName=unique("c"), ProductionVariants=[variant])

    assert f"Model '{sourced}' has a ModelDataSource" in error(lambda: create(serverless(sourced)))["Message"]
    create(serverless(model))
    create(variant(sourced))


@pytest.mark.parametrize(
    "members",
    [{"VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}}, {"EnableNetworkIsolation": True}],
)
def test_serverless_variant_has_no_network_settings(
    make_server: Callable[..., Server], members: dict[str, Any]
) -> None:
    server = make_server("--relax-network-isolation")
    plain, settled = create_model(server, version=1), unique("Model")
    server.sagemaker.create_model(
        ModelName=settled, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": SERVING_IMAGE}, **members
    )

    def create(variant: dict[str, Any], **more: Any) -> Any:
        return server.sagemaker.create_endpoint_config(
            EndpointConfigName=unique("c"), ProductionVariants=[variant], **more
        )

    (member,) = members
    said = f"has {member}, which a serverless variant does not support"
    assert said in error(lambda: create(serverless(settled)))["Message"]
    assert said in error(lambda: create(serverless(plain), **members))["Message"]
    create(variant(settled), **members)
