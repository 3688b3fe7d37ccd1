"""A Model or endpoint configuration that has to be there: found, or made again where somebody removed it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from retraining.creation import create_once
from retraining.identity import require_own
from retraining.job_kinds import is_missing


def have_model(sagemaker: Any, request: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """`request` is CreateModel's. NameTaken where another Model has its name."""
    _have("model", "ModelName", sagemaker.create_model, sagemaker.describe_model, request, say)


def have_endpoint_config(sagemaker: Any, request: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """`request` is CreateEndpointConfig's. NameTaken where one of another Model has its name."""
    create, describe = sagemaker.create_endpoint_config, sagemaker.describe_endpoint_config
    _have("endpoint config", "EndpointConfigName", create, describe, request, say)


def models_of(sagemaker: Any, config: str) -> list[str] | None:
    """The Models of an endpoint configuration's variants; None where it was deleted."""
    try:
        variants = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    return [str(variant.get("ModelName")) for variant in variants]


def _have(
    kind: str,
    key: str,
    create: Callable[..., Any],
    describe: Callable[..., Any],
    request: Mapping[str, Any],
    say: Callable[[str], None],
) -> None:
    name = {key: request[key]}
    try:
        found = describe(**name)
    except ClientError as error:
        if not is_missing(error):
            raise
        say(f"{request[key]} ({kind}) was removed; it is made again.")
        create_once(create, request)
        found = describe(**name)
    require_own(kind, request[key], request, found)
