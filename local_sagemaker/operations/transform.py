"""Batch transform jobs: create, describe, list, stop."""

from __future__ import annotations

from typing import Any

from local_sagemaker import s3
from local_sagemaker.background import Background, stop_job
from local_sagemaker.hosting import served_model
from local_sagemaker.jobs import status as job_status
from local_sagemaker.operations import listing, models
from local_sagemaker.platform import Platform
from local_sagemaker.state.store import AlreadyExistsError, Record, Store
from local_sagemaker.transform import transform_job
from local_sagemaker.transform.data_processing import DataProcessing
from local_sagemaker.transform.model_client import DEFAULT_PAYLOAD_MB, MAX_CONCURRENT, MAX_MB_IN_FLIGHT
from local_sagemaker.transform.transform_job import KIND
from local_sagemaker.wire.errors import not_stoppable, resource_in_use, validation


def create_transform_job(request: dict[str, Any], *, platform: Platform) -> dict[str, Any]:
    _check(request)
    models.check_no_source(models.find(platform.store, platform.settings, request["ModelName"]), "batch transform")
    model = served_model.resolve(platform.store, platform.settings, request["ModelName"])
    try:
        record = transform_job.create(platform, request, model)
    except AlreadyExistsError:
        raise resource_in_use(platform.settings.arn(KIND, request["TransformJobName"])) from None
    return {"TransformJobArn": record.describe["TransformJobArn"]}


def describe_transform_job(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    return _find(store, request).describe


def list_transform_jobs(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    return listing.page(store.list(KIND), request, member="TransformJobSummaries", summary=_summary)


def stop_transform_job(request: dict[str, Any], *, store: Store, background: Background) -> dict[str, Any]:
    """A job that has ended is refused, as on AWS."""
    record = _find(store, request)
    if record.status in job_status.TERMINAL:
        raise not_stoppable("transform job", record.status)
    stop_job(store, background, KIND, record.name)
    return {}


def _check(request: dict[str, Any]) -> None:
    """What a request must fulfil beyond the service model. Raises a ValidationException, before anything starts."""
    source = request["TransformInput"]
    if "S3DataSource" not in source["DataSource"]:
        raise validation("TransformInput.DataSource must have an S3DataSource.")
    kind = source["DataSource"]["S3DataSource"]["S3DataType"]
    if kind not in ("S3Prefix", "ManifestFile"):
        raise validation(f"S3DataType {kind} cannot be used for a transform job; S3Prefix and ManifestFile can.")
    _check_uris(request)
    _check_payload(request)
    try:
        DataProcessing.of(request, started=0.0)
    except ValueError as error:
        raise validation(f"{error}.") from None


def _check_uris(request: dict[str, Any]) -> None:
    uris = [
        request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"],
        request["TransformOutput"]["S3OutputPath"],
        *([request["DataCaptureConfig"]["DestinationS3Uri"]] if "DataCaptureConfig" in request else []),
    ]
    for uri in uris:
        if problem := s3.problem(uri):
            raise validation(problem)


def _check_payload(request: dict[str, Any]) -> None:
    megabytes = request.get("MaxPayloadInMB", DEFAULT_PAYLOAD_MB)
    if megabytes > MAX_MB_IN_FLIGHT:
        raise validation(f"MaxPayloadInMB is {megabytes}; it must be at most {MAX_MB_IN_FLIGHT}.")
    concurrent = request.get("MaxConcurrentTransforms") or 1
    if concurrent > MAX_CONCURRENT:
        raise validation(f"MaxConcurrentTransforms is {concurrent}; it must be at most {MAX_CONCURRENT}.")
    in_flight = concurrent * megabytes
    if in_flight > MAX_MB_IN_FLIGHT:
        raise validation(
            f"MaxConcurrentTransforms * MaxPayloadInMB is {in_flight}; it must be at most {MAX_MB_IN_FLIGHT}."
        )


def _find(store: Store, request: dict[str, Any]) -> Record:
    name = request["TransformJobName"]
    record = store.get(KIND, name)
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
