"""What an endpoint or a transform job serves: a model's container, or that of a version in the registry."""

from __future__ import annotations

import dataclasses
from typing import Any

from local_sagemaker.settings import Settings
from local_sagemaker.state.store import Store
from local_sagemaker.wire.errors import validation

MODEL = "model"
MODEL_PACKAGE = "model-package"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedModel:
    """Everything a server of a model is made from. Copied into who uses it, so that deleting the model is harmless."""

    name: str
    image: str
    data: dict[str, str] | None
    """An S3ModelDataSource (S3Uri, S3DataType, CompressionType); None when the image brings its own model."""
    environment: dict[str, str]
    network_isolation: bool = False


def resolve(store: Store, settings: Settings, name: str) -> ServedModel:
    """What model `name` consists of now; a registry version is looked up. Raises a ValidationException."""
    record = store.get(MODEL, name)
    if record is None:
        raise validation(f'Could not find model "{settings.arn(MODEL, name)}".')
    container = container_of(record.describe)
    environment = container.get("Environment", {})
    if package := container.get("ModelPackageName"):
        container = record.internal.get("package_container") or package_container(store, package)
        environment = container.get("Environment", {}) | environment
    return ServedModel(
        name=name,
        image=container["Image"],
        data=data_source(container),
        environment=environment,
        network_isolation=record.describe.get("EnableNetworkIsolation", False),
    )


def container_of(model: dict[str, Any]) -> dict[str, Any]:
    """The one container of a model, in whichever member it was given: DescribeModel gives it back there."""
    container: dict[str, Any] = (model.get("Containers") or [model.get("PrimaryContainer", {})])[0]
    return container


def package_key(arn_or_name: str) -> str:
    """The key of a registry version in the store: `arn:…:model-package/Clf/3` and `clf/3` are both `clf/3`."""
    return arn_or_name.rpartition(f":{MODEL_PACKAGE}/")[2].lower()


def package_container(store: Store, arn_or_name: str) -> dict[str, Any]:
    """The container of a registry version's InferenceSpecification. Raises a ValidationException."""
    record = store.get(MODEL_PACKAGE, package_key(arn_or_name))
    if record is None:
        raise validation(f"ModelPackage {arn_or_name} does not exist.")
    containers = record.describe.get("InferenceSpecification", {}).get("Containers", [])
    if len(containers) != 1 or "Image" not in containers[0]:
        raise validation(
            f"ModelPackage {record.describe['ModelPackageArn']} has {len(containers)} containers in its "
            "InferenceSpecification; exactly one with an Image can be served here"
        )
    container: dict[str, Any] = containers[0]
    return container


def data_source(container: dict[str, Any]) -> dict[str, str] | None:
    """A container's model data as S3ModelDataSource, from either of the two members that can hold it."""
    if source := container.get("ModelDataSource", {}).get("S3DataSource"):
        return {key: source[key] for key in ("S3Uri", "S3DataType", "CompressionType")}
    if url := container.get("ModelDataUrl"):
        return {"S3Uri": url, "S3DataType": "S3Object", "CompressionType": "Gzip"}
    return None
