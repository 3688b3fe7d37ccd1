"""Models: create, describe, list, delete."""

from __future__ import annotations

import time
from typing import Any

from local_sagemaker.hosting import serving
from local_sagemaker.hosting.serving import MODEL
from local_sagemaker.jobs.life import JobFailedError
from local_sagemaker.operations import listing
from local_sagemaker.platform import Platform
from local_sagemaker.state.store import AlreadyExistsError, Record
from local_sagemaker.wire.errors import validation


def create_model(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """As on AWS, model data that is not there is refused now, and an image that cannot run fails where it is used."""
    container = _check_container(platform, request)
    arn = platform.settings.arn(MODEL, request["ModelName"])
    describe: dict[str, Any] = {key: value for key, value in request.items() if key not in ("Tags", "Containers")}
    describe |= {
        "ModelArn": arn,
        "PrimaryContainer": container,
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
        "CreationTime": time.time(),
    }
    try:
        platform.store.insert(MODEL, request["ModelName"], describe, {"tags": request.get("Tags", [])})
    except AlreadyExistsError:
        raise validation(f'Cannot create already existing model "{arn}".') from None
    return {"ModelArn": arn}


def describe_model(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return find(platform, request["ModelName"]).describe


def list_models(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return listing.page(platform.store.list(MODEL), request, member="Models", summary=_summary)


def delete_model(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """Endpoints and transform jobs that use it are not disturbed: they keep what they were started from."""
    platform.store.delete(MODEL, find(platform, request["ModelName"]).name)
    return {}


def find(platform: Platform, name: str) -> Record:
    record = platform.store.get(MODEL, name)
    if record is None:
        raise validation(f'Could not find model "{platform.settings.arn(MODEL, name)}".')
    return record


def _check_container(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """The one container of the model, as DescribeModel shows it."""
    containers = [
        *([request["PrimaryContainer"]] if "PrimaryContainer" in request else []),
        *request.get("Containers", []),
    ]
    if len(containers) != 1:
        raise validation(
            f"Model '{request['ModelName']}' has {len(containers)} containers; give one PrimaryContainer. "
            "local_sagemaker does not yet run inference pipelines."
        )
    container: dict[str, Any] = dict(containers[0])
    if container.get("Mode", "SingleModel") != "SingleModel":
        raise validation("Mode: local_sagemaker does not yet run multi-model containers.")
    if "ModelPackageName" in container:
        _check_package(platform, container)
        return container
    if "Image" not in container:
        raise validation("Image: a container must have an Image or a ModelPackageName.")
    if "ModelDataUrl" in container and "ModelDataSource" in container:
        raise validation("ModelDataUrl and ModelDataSource cannot both be given.")
    container["Mode"] = "SingleModel"
    if source := serving.data_source(container):
        _check_data(platform, source)
        container.setdefault("ModelDataSource", {"S3DataSource": source})
    return container


def _check_package(platform: Platform, container: dict[str, Any]) -> None:
    name = container["ModelPackageName"]
    if "Image" in container or "ModelDataUrl" in container or "ModelDataSource" in container:
        raise validation("ModelPackageName: a container of a model package brings its own Image and model data.")
    source = serving.data_source(serving.package_container(platform, name))
    record = platform.store.get(serving.MODEL_PACKAGE, serving.package_key(name))
    if record is None or record.status != "Approved":
        status = record.status if record else "gone"
        raise validation(
            f"Model package {name} is {status}; only an Approved one can be deployed. UpdateModelPackage approves it."
        )
    if source:
        _check_data(platform, source)


def _check_data(platform: Platform, source: dict[str, str]) -> None:
    uri = source["S3Uri"]
    if source["S3DataType"] == "S3Prefix" and source["CompressionType"] == "Gzip":
        raise validation("ModelDataSource: S3DataType S3Prefix goes with CompressionType None, S3Object with Gzip.")
    try:
        if source["S3DataType"] == "S3Prefix":
            found = bool(platform.objects.objects("S3Prefix", uri))
        else:
            found = platform.objects.exists(uri)
    except JobFailedError:
        found = False
    if not found:
        raise validation(f"Could not find model data at {uri}.")


def _summary(record: Record) -> dict[str, Any]:
    return {name: record.describe[name] for name in ("ModelName", "ModelArn", "CreationTime")}
