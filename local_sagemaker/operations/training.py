"""Training jobs: create, describe, list, stop."""

from __future__ import annotations

import re
from typing import Any

from local_sagemaker.jobs import training_job
from local_sagemaker.operations import listing
from local_sagemaker.platform import Platform
from local_sagemaker.state.store import AlreadyExistsError, Record
from local_sagemaker.wire.errors import ApiError, resource_in_use, validation

_NOT_HERE = {
    "ContainerEntrypoint": "a container's own entry point",
    "ContainerArguments": "a container's own arguments",
}


def create_training_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    check_definition(request)
    try:
        record = training_job.create(platform, request)
    except AlreadyExistsError:
        raise resource_in_use(platform.settings.arn(training_job.KIND, request["TrainingJobName"])) from None
    return {"TrainingJobArn": record.describe["TrainingJobArn"]}


def describe_training_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return _find(platform, request).describe


def list_training_jobs(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return listing.page(
        platform.store.list(training_job.KIND), request, member="TrainingJobSummaries", summary=_summary
    )


def stop_training_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """Stopping a job that has ended is accepted and changes nothing, as on AWS."""
    training_job.stop(platform, _find(platform, request).name)
    return {}


def check_definition(request: dict[str, Any], metric_names: set[str] | None = None) -> None:
    """What a training job (or a tuning job's definition of one) must fulfil beyond the service model.

    Raises a ValidationException, before anything has started.
    """
    for member, what in _NOT_HERE.items():
        if member in request["AlgorithmSpecification"]:
            raise validation(f"{member}: local_sagemaker runs script mode and does not yet run {what}.")
    if request["ResourceConfig"].get("InstanceCount", 1) != 1:
        raise validation("InstanceCount: local_sagemaker does not yet run more than one instance per job.")
    channels = [channel["ChannelName"] for channel in request.get("InputDataConfig", [])]
    if len(set(channels)) != len(channels):
        raise validation(f"Input channel names must be unique, got {', '.join(channels)}.")
    for definition in request["AlgorithmSpecification"].get("MetricDefinitions", []):
        try:
            re.compile(definition["Regex"])
        except re.error as error:
            raise validation(
                f"Invalid MetricDefinition '{definition['Name']}': regex '{definition['Regex']}': {error}."
            ) from None
    stopping = request["StoppingCondition"]
    if request.get("EnableManagedSpotTraining"):
        wait, run = stopping.get("MaxWaitTimeInSeconds", 0), stopping.get("MaxRuntimeInSeconds", 86400)
        if wait < run:
            raise validation(
                f"Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
                f"MaxRuntimeInSeconds ({run}) when EnableManagedSpotTraining is set, got {wait or 'none'}."
            )
    elif "MaxWaitTimeInSeconds" in stopping:
        raise validation("MaxWaitTimeInSeconds is only supported when EnableManagedSpotTraining is set to true.")


def _find(platform: Platform, request: dict[str, Any]) -> Record:
    record = platform.store.get(training_job.KIND, request["TrainingJobName"])
    if record is None:
        raise ApiError("ValidationException", "Requested resource not found.")
    return record


def _summary(record: Record) -> dict[str, Any]:
    members = (
        "TrainingJobName",
        "TrainingJobArn",
        "CreationTime",
        "TrainingEndTime",
        "LastModifiedTime",
        "TrainingJobStatus",
        "SecondaryStatus",
    )
    return {name: record.describe[name] for name in members if name in record.describe}
