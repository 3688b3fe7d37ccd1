"""Batch transform jobs: create, describe, list, stop."""

from __future__ import annotations

from typing import Any

from local_sagemaker.hosting import serving
from local_sagemaker.jobs import transform_job
from local_sagemaker.jobs.transform_job import KIND
from local_sagemaker.operations import listing
from local_sagemaker.platform import Platform
from local_sagemaker.state.store import AlreadyExistsError, Record
from local_sagemaker.wire.errors import resource_in_use, validation

_MAX_MB_IN_FLIGHT = 100


def create_transform_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    _check(request)
    model = serving.resolve(platform, request["ModelName"])
    try:
        record = transform_job.create(platform, request, model)
    except AlreadyExistsError:
        raise resource_in_use(platform.settings.arn(KIND, request["TransformJobName"])) from None
    return {"TransformJobArn": record.describe["TransformJobArn"]}


def describe_transform_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return _find(platform, request).describe


def list_transform_jobs(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return listing.page(platform.store.list(KIND), request, member="TransformJobSummaries", summary=_summary)


def stop_transform_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """Stopping a job that has ended is accepted and changes nothing, as on AWS."""
    transform_job.stop(platform, _find(platform, request).name)
    return {}


def _check(request: dict[str, Any]) -> None:
    source, processing = request["TransformInput"], request.get("DataProcessing", {})
    if "S3DataSource" not in source["DataSource"]:
        raise validation("TransformInput.DataSource must have an S3DataSource.")
    not_yet = {
        "TransformInput.SplitType": source.get("SplitType", "None") != "None",
        "TransformInput.CompressionType": source.get("CompressionType", "None") != "None",
        "TransformInput.DataSource.S3DataSource.S3DataType": source["DataSource"]["S3DataSource"]["S3DataType"]
        not in ("S3Prefix", "ManifestFile"),
        "DataProcessing": processing.get("InputFilter", "$") != "$"
        or processing.get("OutputFilter", "$") != "$"
        or processing.get("JoinSource", "None") != "None",
        "DataCaptureConfig": "DataCaptureConfig" in request,
    }
    for member, given in not_yet.items():
        if given:
            raise validation(f"{member}: local_sagemaker does not implement this yet; it sends each object whole.")
    megabytes = request.get("MaxPayloadInMB", transform_job.DEFAULT_PAYLOAD_MB)
    in_flight = (request.get("MaxConcurrentTransforms") or 1) * megabytes
    if in_flight > _MAX_MB_IN_FLIGHT:
        raise validation(
            f"MaxConcurrentTransforms * MaxPayloadInMB is {in_flight}; it must be at most {_MAX_MB_IN_FLIGHT}."
        )


def _find(platform: Platform, request: dict[str, Any]) -> Record:
    name = request["TransformJobName"]
    record = platform.store.get(KIND, name)
    if record is None:
        raise validation(f"Could not find requested job with name: {name}")
    return record


def _summary(record: Record) -> dict[str, Any]:
    members = (
        "TransformJobName",
        "TransformJobArn",
        "CreationTime",
        "TransformEndTime",
        "TransformJobStatus",
        "FailureReason",
    )
    summary = {name: record.describe[name] for name in members if name in record.describe}
    return summary | {"LastModifiedTime": record.modified}
