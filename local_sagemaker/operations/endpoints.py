"""Endpoint configs and endpoints: create, describe, list, update, delete."""

from __future__ import annotations

import time
from typing import Any

from local_sagemaker.hosting import endpoint
from local_sagemaker.hosting.endpoint import KIND, Variant
from local_sagemaker.operations import listing, models
from local_sagemaker.platform import Platform
from local_sagemaker.state.store import AlreadyExistsError, Record
from local_sagemaker.wire.errors import validation

CONFIG = "endpoint-config"

_NOT_YET = {
    "AsyncInferenceConfig": "asynchronous inference",
    "ExplainerConfig": "Clarify explainers",
    "ShadowProductionVariants": "shadow variants",
}


def create_endpoint_config(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    _check_config(platform, request)
    name = request["EndpointConfigName"]
    arn = platform.settings.arn(CONFIG, name)
    describe: dict[str, Any] = {key: value for key, value in request.items() if key != "Tags"}
    describe["ProductionVariants"] = [{"InitialVariantWeight": 1.0, **item} for item in request["ProductionVariants"]]
    describe |= {"EndpointConfigArn": arn, "CreationTime": time.time()}
    try:
        platform.store.insert(CONFIG, name, describe, {"tags": request.get("Tags", [])})
    except AlreadyExistsError:
        raise validation(f'Cannot create already existing endpoint configuration "{arn}".') from None
    return {"EndpointConfigArn": arn}


def describe_endpoint_config(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return _find_config(platform, request["EndpointConfigName"]).describe


def list_endpoint_configs(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return listing.page(
        platform.store.list(CONFIG),
        request,
        member="EndpointConfigs",
        summary=lambda record: _members(record, "EndpointConfigName", "EndpointConfigArn", "CreationTime"),
    )


def delete_endpoint_config(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """An endpoint that serves it goes on: it keeps a copy of what it was deployed from."""
    platform.store.delete(CONFIG, _find_config(platform, request["EndpointConfigName"]).name)
    return {}


def create_endpoint(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    name = request["EndpointName"]
    arn = platform.settings.arn(KIND, name)
    config = _find_config(platform, request["EndpointConfigName"])
    now = time.time()
    record = Record(
        kind=KIND,
        name=name,
        describe={"EndpointName": name, "EndpointArn": arn, "CreationTime": now, "LastModifiedTime": now},
        internal={"tags": request.get("Tags", [])},
        parent=None,
        created=now,
        modified=now,
    )
    endpoint.request_deployment(record, config.name, _variants(platform, config), request.get("DeploymentConfig"))
    try:
        platform.endpoints.carry(platform, platform.store.insert(KIND, name, record.describe, record.internal))
    except AlreadyExistsError:
        raise validation(f'Cannot create already existing endpoint "{arn}".') from None
    return {"EndpointArn": arn}


def describe_endpoint(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return _find(platform, request["EndpointName"]).describe


def list_endpoints(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return listing.page(
        platform.store.list(KIND),
        request,
        member="Endpoints",
        summary=lambda record: _members(
            record, "EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus"
        ),
    )


def update_endpoint(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """Blue/green: the answer comes at once with the endpoint Updating, while the old workers go on serving."""
    found = _find(platform, request["EndpointName"])
    if request.get("RetainAllVariantProperties"):
        raise validation(
            "RetainAllVariantProperties: local_sagemaker does not implement this yet; "
            "weights and counts are taken from the new endpoint configuration."
        )
    config = _find_config(platform, request["EndpointConfigName"])
    variants = _variants(platform, config)

    def change(record: Record) -> None:
        _refuse_in_progress(record)
        arn = record.describe["EndpointArn"]
        if record.status == "Failed":
            raise validation(f'Cannot update endpoint "{arn}" that is Failed; delete it and create it again.')
        if record.describe["EndpointConfigName"] == config.name:
            raise validation(
                f'Cannot update endpoint with the currently in use endpoint configuration "{config.name}" '
                f'(endpoint "{arn}"); create a configuration of another name.'
            )
        endpoint.request_deployment(record, config.name, variants, request.get("DeploymentConfig"))

    record = _change(platform, found.name, change)
    return {"EndpointArn": record.describe["EndpointArn"]}


def delete_endpoint(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """Requests in flight are answered; new ones find no endpoint."""
    found = _find(platform, request["EndpointName"])

    def change(record: Record) -> None:
        _refuse_in_progress(record)
        record.describe["EndpointStatus"] = "Deleting"

    _change(platform, found.name, change)
    return {}


def _check_config(platform: Platform, request: dict[str, Any]) -> None:
    for member, what in _NOT_YET.items():
        if member in request:
            raise validation(f"{member}: local_sagemaker does not implement {what} yet.")
    if request.get("DataCaptureConfig", {}).get("EnableCapture"):
        raise validation(
            "DataCaptureConfig: local_sagemaker does not implement data capture yet; set EnableCapture to false."
        )
    names = [variant["VariantName"] for variant in request["ProductionVariants"]]
    if len(set(names)) != len(names):
        raise validation(f"Production variant names must be unique, got {', '.join(names)}.")
    for variant in request["ProductionVariants"]:
        _check_variant(platform, variant)


def _check_variant(platform: Platform, variant: dict[str, Any]) -> None:
    name = variant["VariantName"]
    if "ModelName" not in variant:
        raise validation(
            f"Production variant '{name}' has no ModelName; inference components are not implemented here."
        )
    models.find(platform, variant["ModelName"])
    with_instances = "InstanceType" in variant and "InitialInstanceCount" in variant
    if with_instances == ("ServerlessConfig" in variant):
        raise validation(
            f"Production variant '{name}' must have either InstanceType and InitialInstanceCount, or ServerlessConfig."
        )


def _variants(platform: Platform, config: Record) -> list[Variant]:
    return [Variant.of(platform, variant) for variant in config.describe["ProductionVariants"]]


def _change(platform: Platform, name: str, change: Any) -> Record:
    """Change an endpoint's record and have its thread act on it."""
    try:
        record = platform.store.update(KIND, name, change)
    except KeyError:  # deleted in this very moment
        record = _find(platform, name)
    platform.endpoints.carry(platform, record)
    return record


def _refuse_in_progress(record: Record) -> None:
    if record.status in endpoint.IN_PROGRESS:
        raise validation(f'Cannot update in-progress endpoint "{record.describe["EndpointArn"]}".')


def _find(platform: Platform, name: str) -> Record:
    record = platform.store.get(KIND, name)
    if record is None:
        raise validation(f'Could not find endpoint "{platform.settings.arn(KIND, name)}".')
    return record


def _find_config(platform: Platform, name: str) -> Record:
    record = platform.store.get(CONFIG, name)
    if record is None:
        raise validation(f'Could not find endpoint configuration "{platform.settings.arn(CONFIG, name)}".')
    return record


def _members(record: Record, *names: str) -> dict[str, Any]:
    return {name: record.describe[name] for name in names if name in record.describe}
