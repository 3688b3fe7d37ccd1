"""Processing jobs: create, describe, list, stop, delete. The evaluations of Debugger rules are among them."""

from __future__ import annotations

import os
from typing import Any

from local_sagemaker import s3
from local_sagemaker.background import Background, stop_job
from local_sagemaker.jobs import processing_container, processing_job, rule_records
from local_sagemaker.jobs import status as job_status
from local_sagemaker.jobs.processing_job import KIND
from local_sagemaker.operations import definition, listing
from local_sagemaker.platform import Platform
from local_sagemaker.sandbox import disk
from local_sagemaker.sandbox.images import ImageMap
from local_sagemaker.settings import Settings
from local_sagemaker.state.store import AlreadyExistsError, Record, Store
from local_sagemaker.wire.errors import ApiError, not_stoppable, resource_in_use, resource_not_found, validation

MAX_INSTANCES = 16
"""Hosts of one job: each is a process on this one machine."""


def create_processing_job(request: dict[str, Any], *, platform: Platform) -> dict[str, Any]:
    _check_inputs(request)
    _check_outputs(request)
    _check_paths(request)
    _check_cluster(request)
    _check_program(platform.images, request)
    waived = None
    if request.get("NetworkConfig", {}).get("EnableNetworkIsolation"):
        waived = platform.isolation.check_network_isolation(platform.settings)
    try:
        record = processing_job.create(platform, request, waived)
    except AlreadyExistsError:
        raise resource_in_use(platform.settings.arn(KIND, request["ProcessingJobName"])) from None
    return {"ProcessingJobArn": record.describe["ProcessingJobArn"]}


def describe_processing_job(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    return _find(store, request).describe


def list_processing_jobs(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    return listing.page(store.list(KIND), request, member="ProcessingJobSummaries", summary=_summary)


def stop_processing_job(request: dict[str, Any], *, store: Store, background: Background) -> dict[str, Any]:
    """A job that has ended is refused, as the other kinds of jobs are."""
    record = _find(store, request)
    if record.status in job_status.TERMINAL:
        raise not_stoppable("processing job", record.status)
    if processing_job.RULE in record.internal:
        rule_records.stop(store, record)
    else:
        stop_job(store, background, KIND, record.name)
    return {}


def delete_processing_job(
    request: dict[str, Any], *, store: Store, settings: Settings, background: Background
) -> dict[str, Any]:
    """Of a job that has ended. What it wrote to S3 and to its logs stays, and its name may be used again."""
    try:
        record = _find(store, request)
    except ApiError as error:
        raise resource_not_found(error.message) from None
    ended = record.status in job_status.TERMINAL and not background.carries(KIND, record.name)
    if not ended:
        raise ApiError(
            "ResourceInUse",
            f"Processing job '{record.name}' is {record.status}; only one that is Completed, Failed or Stopped can be "
            "deleted. StopProcessingJob stops it.",
        )
    disk.remove(settings.folder(KIND, record.name))
    store.delete(KIND, record.name)
    return {}


def _check_inputs(request: dict[str, Any]) -> None:
    """Raises a ValidationException for inputs that AWS refuses, and for those that cannot be had here."""
    inputs = request.get("ProcessingInputs", [])
    _check_unique("InputName", [item["InputName"] for item in inputs])
    for item in inputs:
        name, source = f"ProcessingInput '{item['InputName']}'", item.get("S3Input")
        if "DatasetDefinition" in item:
            raise validation(
                f"{name}: DatasetDefinition asks Athena or Redshift, which do not exist here; put the result of the "
                "query into S3 and give an S3Input."
            )
        if source is None:
            raise validation(f"{name}: an S3Input must be given.")
        _check_uri(name, source["S3Uri"])
        if source.get("S3InputMode", "File") != "File":
            raise validation(f"{name}: S3InputMode Pipe does not exist here; File does.")
        if source.get("S3CompressionType", "None") != "None":
            raise validation(f"{name}: S3CompressionType Gzip can only be used with S3InputMode Pipe.")
        _check_path(name, item, source)


def _check_outputs(request: dict[str, Any]) -> None:
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    _check_unique("OutputName", [item["OutputName"] for item in outputs])
    for item in outputs:
        name, target = f"ProcessingOutput '{item['OutputName']}'", item.get("S3Output")
        if "FeatureStoreOutput" in item:
            raise validation(f"{name}: FeatureStoreOutput: there is no feature store here; give an S3Output.")
        if target is None:
            raise validation(f"{name}: an S3Output must be given.")
        _check_uri(name, target["S3Uri"])
        _check_path(name, item, target)


def _check_paths(request: dict[str, Any]) -> None:
    """Every input and output has a LocalPath of its own; one may lie in another, as the SDK's code/ does."""
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    places = [
        *((f"ProcessingInput '{item['InputName']}'", item, "S3Input") for item in request.get("ProcessingInputs", [])),
        *((f"ProcessingOutput '{item['OutputName']}'", item, "S3Output") for item in outputs),
    ]
    taken: dict[str, str] = {}
    for name, item, member in places:
        if item.get("AppManaged") or "LocalPath" not in item[member]:
            continue
        path = os.path.normpath(item[member]["LocalPath"])
        if path in taken:
            raise validation(f"LocalPath '{path}' is used by {taken[path]} and by {name}; each needs one of its own.")
        taken[path] = name


def _check_path(name: str, item: dict[str, Any], place: dict[str, Any]) -> None:
    if item.get("AppManaged"):
        return
    if "LocalPath" not in place:
        raise validation(f"{name}: LocalPath is required unless AppManaged is true.")
    try:
        processing_container.place(processing_container.ROOT, place["LocalPath"])
    except ValueError as error:
        raise validation(f"{name}: {error}.") from None


def _check_uri(name: str, uri: str) -> None:
    if problem := s3.problem(uri):
        raise validation(f"{name}: {problem}.")


def _check_unique(member: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise validation(f"{member}s must be unique, got {', '.join(names)}.")


def _check_cluster(request: dict[str, Any]) -> None:
    cluster = request["ProcessingResources"]["ClusterConfig"]
    if ("InstanceType" in cluster) == ("InstancePreferences" in cluster):
        raise validation("ClusterConfig must have either InstanceType or InstancePreferences.")
    for member in ("SelectedInstanceType", "SelectedInstanceCount"):
        if member in cluster:
            raise validation(f"{member} is what DescribeProcessingJob tells; it cannot be requested.")
    count = processing_container.instance_count(request | processing_container.defaults(request))
    if count > MAX_INSTANCES:
        raise validation(
            f"InstanceCount is {count}; local_sagemaker runs at most {MAX_INSTANCES} hosts of a job on this machine."
        )


def _check_program(images: ImageMap, request: dict[str, Any]) -> None:
    """An image that is not known here fails the job, as on AWS; one without a program is known before."""
    definition.check_words(request["AppSpecification"])
    uri = request["AppSpecification"]["ImageUri"]
    image = images.find(uri)
    if image is not None and processing_container.command(request, image) is None:
        raise validation(
            f"AppSpecification.ContainerEntrypoint is required: image '{uri}' is an interpreter here, without an entry "
            "point of its own."
        )


def _find(store: Store, request: dict[str, Any]) -> Record:
    name = request["ProcessingJobName"]
    # The name of a rule's evaluation is known from its ARN alone, which has lost its capitals.
    record = store.get(KIND, name)
    if record is None:
        raise validation(f"Could not find requested job with name: {name}")
    return record


def _summary(record: Record) -> dict[str, Any]:
    members = (
        "ProcessingJobName",
        "ProcessingJobArn",
        "CreationTime",
        "ProcessingEndTime",
        "LastModifiedTime",
        "ProcessingJobStatus",
        "FailureReason",
        "ExitMessage",
    )
    return {name: record.describe[name] for name in members if name in record.describe}
