"""What a training job's definition must fulfil beyond the service model: rules between members, and this machine.

Used for CreateTrainingJob and for the definitions of tuning jobs, before anything has started. The rules are those of
SageMaker's API reference; its exact wording is known for few of them.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

from local_sagemaker import s3
from local_sagemaker.jobs import cluster, distribution, entrypoint, opt_ml, rule_records
from local_sagemaker.jobs.script import Script
from local_sagemaker.jobs.status import DEFAULT_MAX_RUNTIME_S
from local_sagemaker.s3 import ObjectStore
from local_sagemaker.sandbox.isolation import Isolation
from local_sagemaker.sandbox.patterns import PatternProcesses
from local_sagemaker.settings import Settings
from local_sagemaker.wire.errors import ApiError, validation

Request = dict[str, Any]

MAX_HOSTS = 32
"""Hosts of one job. Every host is a process group of this machine with folders of its own."""

_MAX_RUNTIME_S = 28 * 86_400

# SageMaker's bounds of a job's name and of an S3 URI.
_MAX_NAME, _MAX_URI = 63, 1024

_PROFILING_INTERVALS_MS = (100, 200, 500, 1000, 5000, 60000)

#: Members that ask for services which are not here, with what they would need.
_NOT_HERE = {
    "ServerlessJobConfig": "serverless customization of foundation models",
    "ModelPackageConfig": "model packages made by a training job; register the model with CreateModelPackage",
    "MlflowConfig": "MLflow servers",
}

_DEBUGGER = ("DebugHookConfig", "DebugRuleConfigurations", "ProfilerRuleConfigurations")

# What a checkpoint folder must neither be, nor lie in, nor contain.
_RESERVED_PATHS = tuple(
    PurePosixPath(path)
    for path in (
        *(f"/opt/ml/{name}" for name in ("input", "code", "model", "output")),
        *("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var"),
    )
)


def check_definition(request: Request) -> None:
    """Raises a ValidationException (or ResourceLimitExceeded) that names the member."""
    for member, what in _NOT_HERE.items():
        if member in request:
            raise validation(f"{member}: local_sagemaker has no {what}.")
    for member in ("AlgorithmSpecification", "ResourceConfig"):
        if member not in request:
            raise _missing(member)
    _check_algorithm(request["AlgorithmSpecification"])
    _check_resources(request)
    _check_channels(request)
    _check_uris(request)
    _check_stopping(request)
    _check_checkpoints(request.get("CheckpointConfig", {}))
    _check_paths(request)
    _check_script(request)
    _check_debugging(request)


def check_machine(request: Request, settings: Settings, isolation: Isolation, patterns: PatternProcesses) -> None:
    """Whether it can run here. Raises as `check_definition`, which comes first."""
    _check_metrics(request["AlgorithmSpecification"], patterns)
    _check_isolation(request, settings, isolation)


def check_data(request: Request, settings: Settings, objects: ObjectStore) -> None:
    """Whether each channel has data, in AWS's words: it looks before there is a job. Comes after `check_definition`.

    Whether a manifest is one, and whether its entries are there, only the job finds out, as on AWS.
    """
    for uri in dict.fromkeys(s3.data_source(channel)[1] for channel in request.get("InputDataConfig", [])):
        said = objects.nothing_under(uri)
        if said is not None:
            bucket, _ = s3.split_uri(uri)
            raise validation(
                f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket '
                f"exists in the selected region ({settings.region}), that objects exist under that S3 prefix, and that "
                f'the role "{request["RoleArn"]}" has "s3:ListBucket" permissions on bucket "{bucket}".'
                + (f" Error message from S3: {said}" if said else "")
            )


def check_account(request: Request, settings: Settings) -> None:
    """Whether the account may use what is asked for. AWS's own words to an account without Debugger are not public."""
    if settings.debugger == "closed" and any(member in request for member in _DEBUGGER):
        raise validation(
            "Amazon SageMaker Debugger is not available to this account: it is closed to new customers since "
            f"2026-07-30. Remove {', '.join(_DEBUGGER)}."
        )


def _check_algorithm(algorithm: Request) -> None:
    if ("TrainingImage" in algorithm) == ("AlgorithmName" in algorithm):
        raise validation("AlgorithmSpecification needs exactly one of TrainingImage and AlgorithmName.")
    if "AlgorithmName" in algorithm:
        raise validation("AlgorithmName: local_sagemaker has no algorithm resources; name a TrainingImage.")
    check_words(algorithm)
    if "ContainerArguments" in algorithm and "ContainerEntrypoint" not in algorithm:
        raise validation(
            "ContainerArguments without ContainerEntrypoint are given to the image's own entry point, and "
            "local_sagemaker runs no images; give the ContainerEntrypoint too."
        )


def check_words(specification: Request) -> None:
    """The entry point and the arguments of a container, in AWS's words."""
    for member in ("ContainerArguments", "ContainerEntrypoint"):
        for index, word in enumerate(specification.get(member, [])):
            if not word:
                raise validation(
                    f"Found null or empty string in {member} at index {index}. ContainerArguments and "
                    "ContainerEntrypoint may not contain null or empty strings."
                )
            if "\0" in word:
                raise validation(f"{member} at index {index}: a word of a command cannot hold the character NUL.")


def _check_metrics(algorithm: Request, patterns: PatternProcesses) -> None:
    """Compiled where a pattern can be ended: some take as long to compile as others to match."""
    definitions = algorithm.get("MetricDefinitions", [])
    problems = patterns.problems([definition["Regex"] for definition in definitions])
    for definition, problem in zip(definitions, problems, strict=True):
        if problem:
            raise validation(
                f"Invalid MetricDefinition '{definition['Name']}': regex '{definition['Regex']}': {problem}."
            )


def _check_resources(request: Request) -> None:
    resources = request["ResourceConfig"]
    kinds = [name for name in ("InstanceType", "InstanceGroups", "InstancePreferences") if resources.get(name)]
    if len(kinds) != 1:
        raise validation(
            "ResourceConfig needs exactly one of InstanceType, InstanceGroups and InstancePreferences, "
            f"got {' and '.join(kinds) or 'none'}."
        )
    if kinds == ["InstanceType"] and "InstanceCount" not in resources:
        raise _missing("ResourceConfig.InstanceCount")
    if kinds != ["InstanceType"] and resources.get("InstanceCount") and kinds == ["InstanceGroups"]:
        raise validation("ResourceConfig.InstanceCount cannot be given with InstanceGroups; each group has its own.")
    groups = [group["InstanceGroupName"] for group in resources.get("InstanceGroups", [])]
    _check_unique(groups, "Instance group names")
    for count in [
        resources.get("InstanceCount", 1),
        *(one["InstanceCount"] for one in resources.get("InstanceGroups", [])),
    ]:
        _check_at_least(count, 1, "resourceConfig.instanceCount")
    _check_at_least(resources.get("VolumeSizeInGB", 1), 1, "resourceConfig.volumeSizeInGB")
    count = cluster.count(request)  # counted before they are made
    if count > MAX_HOSTS:
        raise ApiError(
            "ResourceLimitExceeded",
            f"The limit of instances for one training job is {MAX_HOSTS} here, with a request of {count}: every "
            "instance is a group of processes on this machine.",
        )
    spot = request.get("EnableManagedSpotTraining")
    if spot and resources.get("KeepAlivePeriodInSeconds"):
        raise validation("KeepAlivePeriodInSeconds is not supported with EnableManagedSpotTraining.")
    if spot and "InstancePreferences" in resources:
        raise validation("InstancePreferences are not supported with EnableManagedSpotTraining.")


def _check_channels(request: Request) -> None:
    channels = request.get("InputDataConfig", [])
    _check_unique([channel["ChannelName"] for channel in channels], "Input channel names")
    groups = {host.group for host in cluster.hosts(request)}
    for channel in channels:
        name = channel["ChannelName"]
        source = _s3_source(channel)
        unknown = set(source.get("InstanceGroupNames", [])) - groups
        if unknown:
            raise validation(f"Channel '{name}': InstanceGroupNames {sorted(unknown)} are no groups of this job.")
        if name in {".", ".."}:
            raise validation(f"Channel '{name}': the name would not be a folder of its own.")
        _check_mode(request, channel, source)


def _s3_source(channel: Request) -> Request:
    name, source = channel["ChannelName"], channel["DataSource"]
    given = [member for member in ("S3DataSource", "FileSystemDataSource", "DatasetSource") if source.get(member)]
    if len(given) != 1:
        raise validation(
            f"Channel '{name}' needs exactly one data source, got {' and '.join(given) or 'none'}: give S3DataSource."
        )
    if given == ["FileSystemDataSource"]:
        raise validation(
            f"Channel '{name}': EFS and FSx file systems do not exist here; put the data into a bucket and give an "
            "S3DataSource."
        )
    if given == ["DatasetSource"] or "HubAccessConfig" in source.get("S3DataSource", {}):
        raise validation(f"Channel '{name}': SageMaker hubs do not exist here; give an S3DataSource.")
    found: Request = source["S3DataSource"]
    return found


def _check_mode(request: Request, channel: Request, source: Request) -> None:
    """Pipe mode and what goes with it alone. In File mode AWS wants CompressionType and RecordWrapperType unset.

    AttributeNames are for an AugmentedManifestFile; beside another S3DataType AWS takes them, and they say nothing.
    """
    name, kind = channel["ChannelName"], source["S3DataType"]
    mode = opt_ml.input_mode(request, channel)
    if mode == "Pipe":
        raise validation(f"Channel '{name}': local_sagemaker has no Pipe mode; use File or FastFile.")
    if kind == "AugmentedManifestFile":
        raise validation(f"Channel '{name}': an AugmentedManifestFile needs Pipe mode, which local_sagemaker has not.")
    if kind == "Converse":
        raise validation(f"Channel '{name}': the S3DataType Converse is for the customization of foundation models.")
    for member in ("CompressionType", "RecordWrapperType"):
        if channel.get(member, "None") != "None":
            raise validation(
                f"Channel '{name}': {member} '{channel[member]}' is for Pipe mode only; leave it out in {mode} mode."
            )


def _check_uris(request: Request) -> None:
    places = [("OutputDataConfig.S3OutputPath", request["OutputDataConfig"]["S3OutputPath"])]
    for channel in request.get("InputDataConfig", []):
        places.append((f"channel '{channel['ChannelName']}'", channel["DataSource"]["S3DataSource"]["S3Uri"]))
    for member, name in (
        ("CheckpointConfig", "S3Uri"),
        ("DebugHookConfig", "S3OutputPath"),
        ("TensorBoardOutputConfig", "S3OutputPath"),
        ("ProfilerConfig", "S3OutputPath"),
    ):
        if uri := request.get(member, {}).get(name):
            places.append((f"{member}.{name}", uri))
    for where, uri in places:
        if problem := s3.problem(uri):
            raise validation(f"{where}: {problem}.")
    if len(artifact := s3.join(places[0][1], "-" * _MAX_NAME, "output/model.tar.gz")) > _MAX_URI:
        raise validation(
            f"{places[0][0]}: with a job's name and output/model.tar.gz it may have {len(artifact)} characters; "
            f"{_MAX_URI} are allowed."
        )


def _check_stopping(request: Request) -> None:
    stopping = request.get("StoppingCondition", {})
    run = stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME_S)
    if run > _MAX_RUNTIME_S:
        raise validation(
            f"1 validation error detected: Value '{run}' at 'stoppingCondition.maxRuntimeInSeconds' failed to satisfy "
            f"constraint: Member must have value less than or equal to {_MAX_RUNTIME_S}"
        )
    if request.get("EnableManagedSpotTraining"):
        wait = stopping.get("MaxWaitTimeInSeconds", 0)
        if wait < run:
            raise validation(
                f"Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
                f"MaxRuntimeInSeconds ({run}) when EnableManagedSpotTraining is set, got {wait or 'none'}."
            )
    elif "MaxWaitTimeInSeconds" in stopping:
        raise validation("MaxWaitTimeInSeconds is only supported when EnableManagedSpotTraining is set to true.")


def _check_checkpoints(config: Request) -> None:
    text = config.get("LocalPath")
    if text is None:
        return
    path = PurePosixPath(text)
    clash = [one for one in _RESERVED_PATHS if path.is_relative_to(one) or one.is_relative_to(path)]
    if not path.is_absolute() or ".." in path.parts or clash:
        why = f" of {clash[0]}" if clash else ""
        raise validation(
            f"CheckpointConfig.LocalPath '{text}' must be an absolute path clear{why} of the folders that a container "
            "has already, such as /opt/ml/checkpoints."
        )


def _check_paths(request: Request) -> None:
    """What is copied to S3 while the job runs has a folder of its own."""
    taken: dict[str, str] = {}
    for member in ("CheckpointConfig", "DebugHookConfig", "TensorBoardOutputConfig"):
        if text := request.get(member, {}).get("LocalPath"):
            path = os.path.normpath(text)
            if path in taken:
                raise validation(
                    f"LocalPath '{path}' is used by {taken[path]} and by {member}; each needs one of its own."
                )
            taken[path] = member


def _check_script(request: Request) -> None:
    script = Script.of(request)
    for name, what in distribution.NOT_HERE.items():
        if script.enabled(name):
            raise validation(
                f"Hyperparameter {name}: local_sagemaker has no {what}; use torch_distributed "
                "(sagemaker_torch_distributed_enabled)."
            )
    if script.source and not script.source.startswith(("s3://", "/opt/ml/input/data/")):
        raise validation(
            f"sagemaker_submit_directory '{script.source}': local_sagemaker runs no images that could hold it; give "
            "the s3:// URI of a sourcedir.tar.gz."
        )


def _check_debugging(request: Request) -> None:
    for member, _ in rule_records.MEMBERS:
        _check_unique([rule["RuleConfigurationName"] for rule in request.get(member, [])], f"{member} names")
    both = [rule["RuleConfigurationName"] for member, _ in rule_records.MEMBERS for rule in request.get(member, [])]
    _check_unique(both, "RuleConfigurationNames")  # each is the name of a folder of one prefix
    collections = request.get("DebugHookConfig", {}).get("CollectionConfigurations", [])
    _check_unique([one["CollectionName"] for one in collections if "CollectionName" in one], "CollectionNames")
    interval = request.get("ProfilerConfig", {}).get("ProfilingIntervalInMilliseconds", 500)
    if interval not in _PROFILING_INTERVALS_MS:
        raise validation(
            f"1 validation error detected: Value '{interval}' at 'profilerConfig.profilingIntervalInMilliseconds' "
            f"failed to satisfy constraint: Member must satisfy enum value set: {list(_PROFILING_INTERVALS_MS)}"
        )


def _check_isolation(request: Request, settings: Settings, isolation: Isolation) -> None:
    isolation = isolation
    if entrypoint.needs_opt_ml(request) and not isolation.mounts:
        raise validation(
            "ContainerEntrypoint: the command needs /opt/ml, and this machine cannot show a job its own "
            f"({isolation.problem}); use script mode (sagemaker_program and sagemaker_submit_directory), or run "
            "local_sagemaker where it may make mount namespaces."
        )
    if request.get("EnableNetworkIsolation"):
        isolation.check_network_isolation(settings)
        if len(cluster.hosts(request)) > 1 and isolation.networks:
            raise validation(
                "EnableNetworkIsolation with several instances: each would have a network of its own here, and they "
                "could not reach each other; use one instance."
            )


def _check_unique(names: list[str], what: str) -> None:
    if len(set(names)) != len(names):
        raise validation(f"{what} must be unique, got {', '.join(names)}.")


def _check_at_least(value: int, least: int, where: str) -> None:
    if value < least:
        raise validation(
            f"1 validation error detected: Value '{value}' at '{where}' failed to satisfy constraint: "
            f"Member must have value greater than or equal to {least}"
        )


def _missing(member: str) -> ApiError:
    path = ".".join(part[0].lower() + part[1:] for part in member.split("."))
    return validation(
        f"1 validation error detected: Value null at '{path}' failed to satisfy constraint: Member must not be null"
    )
