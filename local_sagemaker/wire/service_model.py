"""botocore's own service models: the specification that requests and responses are held against."""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path
from typing import Any

import botocore
import botocore.model
from botocore.exceptions import UnknownServiceError

from local_sagemaker.wire.constraints import Checks, shown
from local_sagemaker.wire.errors import ApiError, validation

#: Beyond this many violations only their number is told.
_MAX_TOLD = 30
#: What a service calls a request that breaks its model, where that is no ValidationException. Clients catch it by name.
_INVALID = {"logs": "InvalidParameterException", "iam": "ValidationError", "sts": "ValidationError"}


@functools.cache
def service(name: str) -> botocore.model.ServiceModel:
    """The model of `sagemaker`, `logs`, …; raises botocore's UnknownServiceError for a name AWS does not have."""
    return botocore.model.ServiceModel(_description(name), name)


def operation(service_name: str, operation_name: str) -> botocore.model.OperationModel | None:
    try:
        return service(service_name).operation_model(operation_name)
    except botocore.model.OperationNotFoundError:
        return None


def check_request(service_name: str, operation_name: str, request: dict[str, Any]) -> dict[str, Any]:
    """The request as the operation sees it: members that the model knows, and no nulls.

    botocore checks only names, types and minimum lengths on the client, so the service (and this server) must hold it
    against enums, patterns and bounds. Raises a ValidationException (or what the service has for it) in AWS's wording,
    with every violation in it, or a SerializationException for a value of the wrong JSON type.
    """
    name = _shape_name(service_name, operation_name, "input")
    if name is None:
        return {}
    problems: list[str] = []
    try:
        known: dict[str, Any] = _checks(service_name, strict=False).of(name)(request, None, problems)
    except RecursionError:
        raise ApiError("SerializationException", "the request is nested too deeply") from None
    if problems:
        plural = "errors" if len(problems) > 1 else "error"
        more = f"; and {len(problems) - _MAX_TOLD} more" if len(problems) > _MAX_TOLD else ""
        told = f"{len(problems)} validation {plural} detected: {'; '.join(problems[:_MAX_TOLD])}{more}"
        raise ApiError(_INVALID.get(service_name, "ValidationException"), told)
    return known


def check_text(request: Any, path: str = "") -> None:
    """Raises a ValidationException for NUL, which no name of a file and no word of an environment can hold."""
    match request:
        case str() if "\0" in request:
            value = request[:100].replace("\0", "\\u0000")
            raise validation(
                f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: "
                "Member must not contain the character NUL"
            )
        case dict():
            for name, item in request.items():
                check_text(name, path)
                check_text(item, f"{path}.{name[0].lower()}{name[1:]}".lstrip(".") if name else path)
        case list():
            for index, item in enumerate(request, start=1):
                check_text(item, f"{path}.{index}.member")


def check_response(service_name: str, operation_name: str, response: dict[str, Any]) -> list[str]:
    """What is wrong with a response by the model; used by the tests on every response they see."""
    name = _shape_name(service_name, operation_name, "output")
    if name is None:
        return [f"{operation_name} has no output, and here is one: {shown(response)}"] if response else []
    problems: list[str] = []
    try:
        _checks(service_name, strict=True).of(name)(response, None, problems)
    except ApiError as error:
        problems.append(error.message)
    return problems


def _shape_name(service_name: str, operation_name: str, direction: str) -> str | None:
    found = _description(service_name)["operations"].get(operation_name, {}).get(direction)
    return found["shape"] if found else None


@functools.cache
def _checks(service_name: str, strict: bool) -> Checks:
    return Checks(_description(service_name)["shapes"], strict=strict)


@functools.cache
def _description(name: str) -> dict[str, Any]:
    """The newest model of that name that botocore brings.

    Read without botocore's loader: it keeps the documentation (20 MB of memory) and takes ten times as long.
    """
    folder = Path(botocore.__file__).parent / "data" / name
    files = sorted(folder.glob("*/service-2.json*"))
    if not files:
        raise UnknownServiceError(service_name=name, known_service_names="those below botocore/data")
    content = files[-1].read_bytes()
    description = json.loads(
        gzip.decompress(content) if files[-1].suffix == ".gz" else content, object_hook=_undocumented
    )
    assert isinstance(description, dict)
    return description


def _undocumented(item: dict[str, Any]) -> dict[str, Any]:
    if isinstance(item.get("documentation"), str):  # a member of that name is no text
        del item["documentation"]
    return item
