"""Models: create, describe, list, delete."""

from __future__ import annotations

import time
from typing import Any

import botocore.exceptions

from local_sagemaker import s3
from local_sagemaker.failures import InternalFailureError, JobFailedError
from local_sagemaker.hosting import served_model
from local_sagemaker.hosting.served_model import MODEL
from local_sagemaker.operations import listing, registry
from local_sagemaker.s3 import ObjectStore
from local_sagemaker.sandbox.isolation import Isolation
from local_sagemaker.settings import Settings
from local_sagemaker.state.store import AlreadyExistsError, Record, Store
from local_sagemaker.wire.errors import ApiError, validation


def create_model(
    request: dict[str, Any], *, store: Store, settings: Settings, objects: ObjectStore, isolation: Isolation
) -> dict[str, Any]:
    """As on AWS, model data that is not there is refused now, and an image that cannot run fails where it is used.

    What a model package holds is copied, so that deleting the package later is harmless.
    """
    if request.get("EnableNetworkIsolation"):
        isolation.check_network_isolation(settings)
    container = _container(request)
    member = "Containers" if "Containers" in request else "PrimaryContainer"
    arn = settings.arn(MODEL, request["ModelName"])
    internal: dict[str, Any] = {"tags": request.get("Tags", [])}
    if "ModelPackageName" in container:
        internal["package_container"] = _check_package(store, objects, container)
    else:
        container = _check_container(objects, container)
    describe: dict[str, Any] = {key: value for key, value in request.items() if key != "Tags"}
    describe |= {
        "ModelArn": arn,
        member: [container] if member == "Containers" else container,
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
        "CreationTime": time.time(),
    }
    try:
        store.insert(MODEL, request["ModelName"], describe, internal)
    except AlreadyExistsError:
        raise validation(f'Cannot create already existing model "{arn}".') from None
    return {"ModelArn": arn}


def describe_model(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    return find(store, settings, request["ModelName"]).describe


def list_models(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    return listing.page(store.list(MODEL), request, member="Models", summary=_summary)


def delete_model(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    """Endpoints and transform jobs that use it are not disturbed: they keep what they were started from."""
    store.delete(MODEL, find(store, settings, request["ModelName"]).name)
    return {}


def find(store: Store, settings: Settings, name: str) -> Record:
    record = store.get(MODEL, name)
    if record is None:
        raise validation(f'Could not find model "{settings.arn(MODEL, name)}".')
    return record


def check_no_source(record: Record, what: str) -> None:
    """Raises a ValidationException for a model with a ModelDataSource, which SageMaker does not take for `what`."""
    container = record.internal.get("package_container") or served_model.container_of(record.describe)
    if "ModelDataSource" in container and "ModelDataUrl" not in container:  # DescribeModel shows it for both
        raise validation(
            f"Model '{record.describe['ModelName']}' has a ModelDataSource, which cannot be used with {what}; make a "
            "model with the ModelDataUrl of a model.tar.gz."
        )


def _container(request: dict[str, Any]) -> dict[str, Any]:
    """The one container of the model. Raises a ValidationException for what is not run here."""
    if "PrimaryContainer" in request and "Containers" in request:
        raise validation("PrimaryContainer and Containers cannot both be given.")
    containers = request.get("Containers", [request["PrimaryContainer"]] if "PrimaryContainer" in request else [])
    if len(containers) != 1:
        raise validation(
            f"Model '{request['ModelName']}' has {len(containers)} containers; give one PrimaryContainer. "
            "local_sagemaker does not run inference pipelines."
        )
    if request.get("InferenceExecutionConfig", {}).get("Mode") == "Direct":
        raise validation("InferenceExecutionConfig: the mode Direct is for models of several containers.")
    container: dict[str, Any] = dict(containers[0])
    if container.get("Mode", "SingleModel") != "SingleModel":
        raise validation("Mode: local_sagemaker does not run multi-model containers.")
    if container.get("AdditionalModelDataSources"):
        raise validation(
            "AdditionalModelDataSources: local_sagemaker fetches one model data source; put all of it into one."
        )
    return container


def _check_container(objects: ObjectStore, container: dict[str, Any]) -> dict[str, Any]:
    """The container as DescribeModel shows it."""
    if "Image" not in container:
        raise validation("Image: a container must have an Image or a ModelPackageName.")
    if "InferenceSpecificationName" in container:
        raise validation("InferenceSpecificationName: it goes with a ModelPackageName.")
    if "ModelDataUrl" in container and "ModelDataSource" in container:
        raise validation("ModelDataUrl and ModelDataSource cannot both be given.")
    container["Mode"] = "SingleModel"
    _check_data(objects, container)
    if source := served_model.data_source(container):
        container.setdefault("ModelDataSource", {"S3DataSource": source})
    return container


def _check_package(store: Store, objects: ObjectStore, container: dict[str, Any]) -> dict[str, Any]:
    """The package's own container."""
    name = container["ModelPackageName"]
    if "Image" in container or "ModelDataUrl" in container or "ModelDataSource" in container:
        raise validation("ModelPackageName: a container of a model package brings its own Image and model data.")
    record = registry.find(store, name)
    # A package without versions has no status, and needs no approval.
    if record.status not in (None, "Approved"):
        raise validation(
            f"Model package {name} is {record.status}; only an Approved one can be deployed. "
            "UpdateModelPackage approves it."
        )
    packaged = _packaged(record, container.get("InferenceSpecificationName"))
    _check_data(objects, packaged)
    return packaged


def _packaged(record: Record, name: str | None) -> dict[str, Any]:
    """The container of a package's InferenceSpecification, or of the additional one of that name."""
    arn, specification = record.describe["ModelPackageArn"], record.describe.get("InferenceSpecification", {})
    if name is not None:
        additional = record.describe.get("AdditionalInferenceSpecifications", [])
        found = [item for item in additional if item["Name"] == name]
        if not found:
            raise validation(f"ModelPackage {arn} has no additional inference specification named {name}.")
        (specification,) = found
    containers = specification.get("Containers", [])
    if len(containers) != 1 or "Image" not in containers[0]:
        raise validation(
            f"ModelPackage {arn} has {len(containers)} containers in its inference specification; "
            "exactly one with an Image can be served here."
        )
    container: dict[str, Any] = containers[0]
    return container


def _check_data(objects: ObjectStore, container: dict[str, Any]) -> None:
    """Raises a ValidationException for model data that is not there or not of a kind that is fetched here."""
    source = served_model.data_source(container)
    if source is None:
        return
    described = container.get("ModelDataSource", {}).get("S3DataSource", {})
    for member in ("HubAccessConfig", "ManifestS3Uri"):
        if member in described:
            raise validation(f"{member}: there are no model hubs here; give the S3Uri of the model itself.")
    uri, kind = source["S3Uri"], source["S3DataType"]
    if kind == "S3Prefix" and source["CompressionType"] == "Gzip":
        raise validation("ModelDataSource: S3DataType S3Prefix goes with CompressionType None, S3Object with Gzip.")
    if kind == "S3Prefix" and not uri.endswith("/"):
        raise validation(f"ModelDataSource: the S3Uri '{uri}' of an S3Prefix must end with a slash.")
    try:
        _, key = s3.split_uri(uri)
        if kind == "S3Prefix":
            found = bool(objects.objects(kind, uri))
        else:
            found = bool(key) and objects.exists(uri)
    except InternalFailureError as error:
        raise ApiError("ServiceUnavailable", str(error), 503) from error
    except botocore.exceptions.BotoCoreError as error:
        raise ApiError("ServiceUnavailable", f"The object store does not answer for {uri}: {error}", 503) from error
    except JobFailedError:
        found = False
    if not found:
        raise validation(f"Could not find model data at {uri}.")


def _summary(record: Record) -> dict[str, Any]:
    return {name: record.describe[name] for name in ("ModelName", "ModelArn", "CreationTime")}
