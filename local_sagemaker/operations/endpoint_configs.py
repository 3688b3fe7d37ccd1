"""Endpoint configurations: create, describe, list, delete, and the rules that one must meet."""

from __future__ import annotations

import time
from typing import Any

from local_sagemaker import s3
from local_sagemaker.operations import listing, models
from local_sagemaker.sandbox.isolation import Isolation
from local_sagemaker.settings import Settings
from local_sagemaker.state.store import AlreadyExistsError, Record, Store
from local_sagemaker.wire.errors import validation

CONFIG = "endpoint-config"

_NOT_YET = {
    "ExplainerConfig": "Clarify explainers",
    "ShadowProductionVariants": "shadow variants",
}


def create_endpoint_config(
    request: dict[str, Any], *, store: Store, settings: Settings, isolation: Isolation
) -> dict[str, Any]:
    _check(store, settings, request)
    if request.get("EnableNetworkIsolation"):
        isolation.check_network_isolation(settings)
    name = request["EndpointConfigName"]
    arn = settings.arn(CONFIG, name)
    describe: dict[str, Any] = {key: value for key, value in request.items() if key != "Tags"}
    describe["ProductionVariants"] = [{"InitialVariantWeight": 1.0, **item} for item in request["ProductionVariants"]]
    describe |= {"EndpointConfigArn": arn, "CreationTime": time.time()}
    try:
        store.insert(CONFIG, name, describe, {"tags": request.get("Tags", [])})
    except AlreadyExistsError:
        raise validation(f'Cannot create already existing endpoint configuration "{arn}".') from None
    return {"EndpointConfigArn": arn}


def describe_endpoint_config(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    return find(store, settings, request["EndpointConfigName"]).describe


def list_endpoint_configs(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    return listing.page(store.list(CONFIG), request, member="EndpointConfigs", summary=_summary)


def delete_endpoint_config(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    """An endpoint that serves it goes on: it keeps a copy of what it was deployed from."""
    store.delete(CONFIG, find(store, settings, request["EndpointConfigName"]).name)
    return {}


def find(store: Store, settings: Settings, name: str) -> Record:
    record = store.get(CONFIG, name)
    if record is None:
        raise validation(f'Could not find endpoint configuration "{settings.arn(CONFIG, name)}".')
    return record


def _summary(record: Record) -> dict[str, Any]:
    return {name: record.describe[name] for name in ("EndpointConfigName", "EndpointConfigArn", "CreationTime")}


def _check(store: Store, settings: Settings, request: dict[str, Any]) -> None:
    for member, what in _NOT_YET.items():
        if request.get(member):
            raise validation(f"{member}: local_sagemaker does not implement {what} yet.")
    variants = request["ProductionVariants"]
    names = [variant["VariantName"] for variant in variants]
    if len(set(names)) != len(names):
        raise validation(f"Production variant names must be unique, got {', '.join(names)}.")
    for variant in variants:
        _check_variant(store, settings, variant)
    serverless = any("ServerlessConfig" in variant for variant in variants)
    if serverless and len(variants) > 1:
        raise validation(f"An endpoint with a serverless variant has exactly one variant, got {', '.join(names)}.")
    if serverless:
        _check_network(request, "The endpoint configuration")
    if "AsyncInferenceConfig" in request:
        _check_asynchronous(request["AsyncInferenceConfig"], names, serverless)
    if "DataCaptureConfig" in request:
        _check_capture(request["DataCaptureConfig"], serverless)


def _check_variant(store: Store, settings: Settings, variant: dict[str, Any]) -> None:
    name = variant["VariantName"]
    if "ModelName" not in variant:
        raise validation(
            f"Production variant '{name}' has no ModelName; inference components are not implemented here."
        )
    if "InstancePools" in variant:
        raise validation(
            f"Production variant '{name}' has InstancePools; local_sagemaker has one instance type for all instances "
            "of a variant. Give InstanceType and InitialInstanceCount."
        )
    model = models.find(store, settings, variant["ModelName"])
    with_instances = "InstanceType" in variant and "InitialInstanceCount" in variant
    if with_instances == ("ServerlessConfig" in variant):
        raise validation(
            f"Production variant '{name}' must have either InstanceType and InitialInstanceCount, or ServerlessConfig."
        )
    if serverless := variant.get("ServerlessConfig"):
        check_serverless(name, serverless)
        models.check_no_source(model, "a serverless variant")
        _check_network(model.describe, f"Model '{variant['ModelName']}'")


def check_serverless(name: str, config: dict[str, Any]) -> None:
    """Raises a ValidationException for a ServerlessConfig of variant `name` that AWS does not offer."""
    if config["MemorySizeInMB"] % 1024:
        raise validation(
            f"MemorySizeInMB of production variant '{name}' is {config['MemorySizeInMB']}; "
            "it must be a multiple of 1024."
        )
    if config.get("ProvisionedConcurrency", 0) > config["MaxConcurrency"]:
        raise validation(
            f"ProvisionedConcurrency of production variant '{name}' is {config['ProvisionedConcurrency']}; "
            f"it must be at most MaxConcurrency ({config['MaxConcurrency']})."
        )


def _check_network(described: dict[str, Any], what: str) -> None:
    """Serverless endpoints have no network of the account's, and none that could be taken away, as AWS documents."""
    for member in ("VpcConfig", "EnableNetworkIsolation"):
        if described.get(member):
            raise validation(f"{what} has {member}, which a serverless variant does not support.")


def _check_asynchronous(config: dict[str, Any], names: list[str], serverless: bool) -> None:
    """What is stored in S3 is checked by nobody before the first invocation, so its shape is now."""
    if len(names) > 1:
        raise validation(f"An asynchronous endpoint has exactly one production variant, got {', '.join(names)}.")
    if serverless:
        raise validation("AsyncInferenceConfig: a serverless variant cannot be invoked asynchronously.")
    output = config["OutputConfig"]
    if "S3OutputPath" not in output:
        raise validation("AsyncInferenceConfig.OutputConfig needs an S3OutputPath, where the answers are written.")
    for member in ("S3OutputPath", "S3FailurePath"):
        if member in output:
            _check_uri(output[member], f"AsyncInferenceConfig.OutputConfig.{member}")


def _check_capture(config: dict[str, Any], serverless: bool) -> None:
    if serverless and config.get("EnableCapture", True):
        raise validation("DataCaptureConfig: what a serverless variant is sent cannot be captured.")
    _check_uri(config["DestinationS3Uri"], "DataCaptureConfig.DestinationS3Uri")
    modes = [option["CaptureMode"] for option in config["CaptureOptions"]]
    if len(set(modes)) != len(modes):
        raise validation(f"DataCaptureConfig.CaptureOptions has a CaptureMode twice: {', '.join(modes)}.")


def _check_uri(uri: str, member: str) -> None:
    if s3.problem(uri):
        raise validation(f"{member} is '{uri}'; it must look like s3://bucket/prefix.")
