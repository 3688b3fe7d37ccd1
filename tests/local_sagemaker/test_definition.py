"""What CreateTrainingJob refuses beyond the service model: nothing has started, and the message names the member."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import botocore.exceptions
import pytest

from local_sagemaker.operations.definition import MAX_HOSTS, check_definition
from local_sagemaker.wire.errors import ApiError
from tests.local_sagemaker.harness import BUCKET, IMAGE, ROLE, Server

REQUEST: dict[str, Any] = {
    "TrainingJobName": "refused",
    "RoleArn": ROLE,
    "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
    "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/jobs"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}
SOURCE = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/data/"}
FILE_SYSTEM = {
    "FileSystemId": "fs-0123456789abcdef0",
    "FileSystemAccessMode": "ro",
    "FileSystemType": "EFS",
    "DirectoryPath": "/",
}


def channel(source: dict[str, Any] | None = None, name: str = "train", **more: Any) -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": SOURCE} if source is None else source} | more


def s3(**changes: Any) -> dict[str, Any]:
    return {"S3DataSource": SOURCE | changes}


def group(name: str = "a", count: int = 1) -> dict[str, Any]:
    return {"InstanceGroupName": name, "InstanceType": "ml.m5.large", "InstanceCount": count}


def algorithm(**more: Any) -> dict[str, Any]:
    return {"AlgorithmSpecification": REQUEST["AlgorithmSpecification"] | more}


def resources(**more: Any) -> dict[str, Any]:
    return {"ResourceConfig": REQUEST["ResourceConfig"] | more}


RULE = {"RuleConfigurationName": "r", "RuleEvaluatorImage": "DEFAULT_RULE_EVALUATOR_IMAGE"}
SPOT = {"EnableManagedSpotTraining": True, "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"AlgorithmSpecification": None}, "Value null at 'algorithmSpecification'"),
    ({"ResourceConfig": None}, "Value null at 'resourceConfig'"),
    ({"ServerlessJobConfig": {"BaseModelArn": "a", "JobType": "FineTuning"}}, "ServerlessJobConfig"),
    ({"MlflowConfig": {"MlflowResourceArn": "a"}}, "MlflowConfig"),
    ({"AlgorithmSpecification": {"TrainingInputMode": "File"}}, "exactly one of TrainingImage and AlgorithmName"),
    (algorithm(AlgorithmName="a"), "exactly one of TrainingImage and AlgorithmName"),
    ({"AlgorithmSpecification": {"TrainingInputMode": "File", "AlgorithmName": "a"}}, "no algorithm resources"),
    (algorithm(ContainerArguments=["x"]), "ContainerArguments without ContainerEntrypoint"),
    ({"ResourceConfig": {"InstanceCount": 1, "VolumeSizeInGB": 1}}, "exactly one of InstanceType"),
    (resources(InstanceGroups=[group()]), "exactly one of InstanceType"),
    ({"ResourceConfig": {"InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}}, "resourceConfig.instanceCount"),
    (resources(InstanceCount=0), "greater than or equal to 1"),
    (resources(VolumeSizeInGB=0), "resourceConfig.volumeSizeInGB"),
    ({"ResourceConfig": {"InstanceGroups": [group(), group()]}}, "Instance group names must be unique"),
    ({"ResourceConfig": {"InstanceGroups": [group(count=0)]}}, "greater than or equal to 1"),
    ({"ResourceConfig": {"InstanceGroups": [group()], "InstanceCount": 2}}, "each group has its own"),
    (resources(InstanceCount=MAX_HOSTS + 1), f"limit of instances for one training job is {MAX_HOSTS}"),
    (SPOT | resources(KeepAlivePeriodInSeconds=60), "KeepAlivePeriodInSeconds"),
    ({"EnableManagedSpotTraining": True}, "Invalid MaxWaitTimeInSeconds"),
    (SPOT | {"StoppingCondition": {"MaxRuntimeInSeconds": 61, "MaxWaitTimeInSeconds": 60}}, "Invalid MaxWaitTime"),
    (SPOT | {"StoppingCondition": {"MaxWaitTimeInSeconds": 60}}, "MaxRuntimeInSeconds (86400)"),
    ({"StoppingCondition": {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 60}}, "only supported when"),
    ({"StoppingCondition": {"MaxRuntimeInSeconds": 28 * 86400 + 1}}, "less than or equal to 2419200"),
    ({"InputDataConfig": [channel(), channel()]}, "Input channel names must be unique"),
    ({"InputDataConfig": [channel({})]}, "exactly one data source, got none"),
    ({"InputDataConfig": [channel(s3() | {"FileSystemDataSource": FILE_SYSTEM})]}, "exactly one data source"),
    ({"InputDataConfig": [channel({"FileSystemDataSource": FILE_SYSTEM})]}, "EFS and FSx file systems"),
    ({"InputDataConfig": [channel({"DatasetSource": {"DatasetArn": "a"}})]}, "hubs do not exist"),
    ({"InputDataConfig": [channel(s3(InstanceGroupNames=["b"]))]}, "no groups of this job"),
    ({"InputDataConfig": [channel(name="..")]}, "would not be a folder"),
    ({"InputDataConfig": [channel(InputMode="Pipe")]}, "no Pipe mode"),
    (algorithm(TrainingInputMode="Pipe") | {"InputDataConfig": [channel()]}, "no Pipe mode"),
    ({"InputDataConfig": [channel(s3(S3DataType="AugmentedManifestFile", AttributeNames=["a"]))]}, "needs Pipe mode"),
    ({"InputDataConfig": [channel(s3(S3DataType="Converse"))]}, "foundation models"),
    ({"InputDataConfig": [channel(CompressionType="Gzip")]}, "CompressionType 'Gzip' is for Pipe mode"),
    ({"InputDataConfig": [channel(RecordWrapperType="RecordIO")]}, "RecordWrapperType 'RecordIO'"),
    ({"InputDataConfig": [channel(s3(S3Uri="https://example.com/data"))]}, "channel 'train'"),
    ({"OutputDataConfig": {"S3OutputPath": "https://example.com/jobs"}}, "OutputDataConfig.S3OutputPath"),
    ({"CheckpointConfig": {"S3Uri": "https://example.com/ckpt"}}, "CheckpointConfig.S3Uri"),
    ({"CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "relative"}}, "absolute path"),
    ({"CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "/opt/ml"}}, "/opt/ml/input"),
    ({"CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "/opt/ml/model/x"}}, "/opt/ml/model"),
    ({"CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "/opt/ml/x/../model"}}, "absolute path"),
    ({"CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "/"}}, "clear of"),
    ({"CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "/usr/lib"}}, "clear of"),
    ({"HyperParameters": {"sagemaker_mpi_enabled": "true"}}, "sagemaker_mpi_enabled"),
    ({"HyperParameters": {"sagemaker_parameter_server_enabled": "true"}}, "parameter servers"),
    ({"HyperParameters": {"sagemaker_submit_directory": "file:///home/me"}}, "runs no images"),
    ({"Environment": {"SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/code"}}, "runs no images"),
    ({"DebugRuleConfigurations": [RULE, RULE]}, "DebugRuleConfigurations names must be unique"),
    ({"DebugRuleConfigurations": [RULE], "ProfilerRuleConfigurations": [RULE]}, "RuleConfigurationNames must be"),
    (
        {"DebugHookConfig": {"S3OutputPath": "s3://b/d", "CollectionConfigurations": [{"CollectionName": "c"}] * 2}},
        "CollectionNames must be unique",
    ),
    (
        {
            "CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "/opt/ml/mine"},
            "TensorBoardOutputConfig": {"S3OutputPath": "s3://b/t", "LocalPath": "/opt/ml/mine/"},
        },
        "LocalPath '/opt/ml/mine' is used by CheckpointConfig and by TensorBoardOutputConfig",
    ),
    (algorithm(ContainerEntrypoint=["python3", ""]), "Found null or empty string in ContainerEntrypoint at index 1"),
    (resources(InstanceCount=2**31 - 1), "with a request of 2147483647"),
    ({"ProfilerConfig": {"ProfilingIntervalInMilliseconds": 300}}, "[100, 200, 500"),
]  # fmt: skip


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    request = copy.deepcopy(REQUEST | changes)
    return {name: value for name, value in request.items() if value is not None}


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=[said[:40] for _, said in REFUSED])
def test_bad_definition_is_refused_in_words(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError) as caught:
        check_definition(changed(changes))
    assert said in caught.value.message
    assert caught.value.code in {"ValidationException", "ResourceLimitExceeded"}


ACCEPTED: list[dict[str, Any]] = [
    {},
    SPOT,
    SPOT | {"RetryStrategy": {"MaximumRetryAttempts": 30}},
    resources(KeepAlivePeriodInSeconds=21600),
    resources(InstanceCount=MAX_HOSTS),
    {"ResourceConfig": {"InstanceGroups": [group("a", 2), group("b")]}},
    {"ResourceConfig": {"InstancePreferences": [{"InstanceType": "ml.m5.large", "InstanceCount": 2}]}},
    {"InputDataConfig": [channel(), channel(name="other", InputMode="FastFile", ShuffleConfig={"Seed": 3})]},
    {"InputDataConfig": [channel(CompressionType="None", RecordWrapperType="None")]},
    {"InputDataConfig": [channel(s3(AttributeNames=["a"]))]},
    algorithm(TrainingInputMode="Pipe"),  # no channel is read that way
    {"CheckpointConfig": {"S3Uri": "s3://b/c", "LocalPath": "/opt/ml/checkpoints"}},
    {"HyperParameters": {"sagemaker_mpi_enabled": "false", "sagemaker_torch_distributed_enabled": "true"}},
    {"StoppingCondition": {"MaxRuntimeInSeconds": 28 * 86400}},
]


@pytest.mark.parametrize("changes", ACCEPTED)
def test_good_definition_is_accepted(changes: dict[str, Any]) -> None:
    check_definition(changed(changes))


def test_refused_job_does_not_exist(server: Server) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="no Pipe mode") as caught:
        server.sagemaker.create_training_job(**changed({"InputDataConfig": [channel(InputMode="Pipe")]}))
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(botocore.exceptions.ClientError, match="Requested resource not found"):
        server.sagemaker.describe_training_job(TrainingJobName="refused")


def test_network_isolation_that_cannot_be_kept_is_refused(make_server: Callable[..., Server]) -> None:
    server = make_server("--isolation", "off")
    with pytest.raises(botocore.exceptions.ClientError, match="--relax-network-isolation"):
        server.sagemaker.create_training_job(**changed({"EnableNetworkIsolation": True}))
