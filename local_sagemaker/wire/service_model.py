"""botocore's own service models: the specification that requests and responses are held against."""

from __future__ import annotations

import functools
import re
from typing import Any

import botocore.loaders
import botocore.model

from local_sagemaker.wire.errors import ApiError, validation

# Loading SageMaker's model costs 0.2 s, so it happens once, at the first use.


@functools.cache
def service(name: str) -> botocore.model.ServiceModel:
    """The model of `sagemaker`, `logs`, …; raises botocore's UnknownServiceError for a name AWS does not have."""
    description = botocore.loaders.create_loader().load_service_model(name, "service-2")
    return botocore.model.ServiceModel(description, name)


def operation(service_name: str, operation_name: str) -> botocore.model.OperationModel | None:
    try:
        return service(service_name).operation_model(operation_name)
    except botocore.model.OperationNotFoundError:
        return None


def check_request(service_name: str, operation_name: str, request: dict[str, Any]) -> None:
    """Hold a request against the model, with required members, enums, patterns and bounds.

    botocore checks only names, types and minimum lengths on the client, so the service (and this server) must.
    Raises a ValidationException in AWS's wording, with every violation in it.
    """
    model = operation(service_name, operation_name)
    if model is None or model.input_shape is None:
        return
    problems: list[str] = []
    _check(model.input_shape, request, "", problems)
    if problems:
        plural = "errors" if len(problems) > 1 else "error"
        raise validation(f"{len(problems)} validation {plural} detected: {'; '.join(problems)}")


def check_response(service_name: str, operation_name: str, response: dict[str, Any]) -> list[str]:
    """What is wrong with a response by the model; used by the tests on every response they see."""
    model = operation(service_name, operation_name)
    if model is None or model.output_shape is None:
        return []
    problems: list[str] = []
    _check(model.output_shape, response, "", problems, strict=True)
    return problems


def _check(shape: Any, value: Any, path: str, problems: list[str], strict: bool = False) -> None:
    match shape.type_name:
        case "structure":
            _check_structure(shape, value, path, problems, strict)
        case "list":
            _expect(list, value, path)
            _check_range(shape, len(value), value, path, problems, "length")
            for index, item in enumerate(value, start=1):
                _check(shape.member, item, f"{path}.{index}.member", problems, strict)
        case "map":
            _expect(dict, value, path)
            _check_range(shape, len(value), value, path, problems, "length")
            for key, item in value.items():
                _check(shape.key, key, f"{path}.{key}.key", problems, strict)
                _check(shape.value, item, f"{path}.{key}.member", problems, strict)
        case "string":
            _expect(str, value, path)
            _check_string(shape, value, path, problems)
        case "integer" | "long":
            _expect(int, value, path)
            _check_range(shape, value, value, path, problems, "value")
        case "float" | "double":
            _expect((int, float), value, path)
            _check_range(shape, value, value, path, problems, "value")
        case "boolean":
            _expect(bool, value, path, allow_bool=True)
        case "timestamp":
            _expect((int, float, str), value, path)


def _check_structure(shape: Any, value: Any, path: str, problems: list[str], strict: bool) -> None:
    _expect(dict, value, path)
    for name in shape.required_members:
        if value.get(name) is None:
            where = _member_path(path, name)
            problems.append(f"Value null at '{where}' failed to satisfy constraint: Member must not be null")
    for name, item in value.items():
        if name not in shape.members:
            # AWS ignores members it does not know; in our own responses they are a mistake.
            if strict:
                problems.append(f"Unknown member '{_member_path(path, name)}'")
        elif item is not None:
            _check(shape.members[name], item, _member_path(path, name), problems, strict)


def _check_string(shape: Any, value: str, path: str, problems: list[str]) -> None:
    if shape.enum and value not in shape.enum:
        problems.append(
            f"Value '{value}' at '{path}' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
        )
    _check_range(shape, len(value), value, path, problems, "length")
    pattern = shape.metadata.get("pattern")
    compiled = _compiled(pattern) if pattern else None
    if compiled and not compiled.fullmatch(value):
        problems.append(
            f"Value '{value}' at '{path}' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {pattern}"
        )


def _check_range(shape: Any, size: float, value: Any, path: str, problems: list[str], what: str) -> None:
    bounds = (("min", "greater", size.__lt__), ("max", "less", size.__gt__))
    for bound, word, violates in bounds:
        limit = shape.metadata.get(bound)
        if limit is not None and violates(type(size)(limit)) is True:
            problems.append(
                f"Value '{value}' at '{path}' failed to satisfy constraint: "
                f"Member must have {what} {word} than or equal to {limit}"
            )


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern)
    except re.error:  # Java's \p{L} classes (tag keys): not expressible in `re`, so not checked.
        return None


def _member_path(path: str, name: str) -> str:
    lowered = name[0].lower() + name[1:]
    return f"{path}.{lowered}" if path else lowered


def _expect(kind: type | tuple[type, ...], value: Any, path: str, allow_bool: bool = False) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and not allow_bool):
        raise ApiError("SerializationException", f"'{path or 'request'}' has the wrong JSON type: {value!r:.80}")
