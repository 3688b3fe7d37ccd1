"""One call of the data plane as it came in: its headers held against the service model, its body received."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request

from local_sagemaker.hosting.payload import Payload
from local_sagemaker.platform import Platform
from local_sagemaker.wire import service_model
from local_sagemaker.wire.errors import ApiError

MAX_BODY_BYTES = 25 * 2**20
"""SageMaker's limit of a real-time request, and of its answer."""

MAX_INLINE_BYTES = 128_000
"""SageMaker's limit of a body given to InvokeEndpointAsync itself."""

#: The last part of the path → the operation.
OPERATIONS = {
    "invocations": "InvokeEndpoint",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
    "async-invocations": "InvokeEndpointAsync",
}

_RECEIVE_TIMEOUT_S = 60.0
# A body that is too large is read to its end (and dropped), so that the client gets to read the answer; up to here.
_MAX_DROPPED_BYTES = 2**28

_NOT_APPLICABLE = {
    "TargetModel": "it is not a multi-model endpoint",
    "TargetContainerHostname": "it is not a multi-container endpoint with direct invocation",
    "InferenceComponentName": "it does not host inference components",
    "EnableExplanations": "its configuration has no ExplainerConfig",
}

Authenticate = Callable[[str | None], None]
"""Takes the SHA-256 of the body (hexadecimal), None before it is read; raises an ApiError for who may not call."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Invocation:
    operation: str
    endpoint: str
    members: dict[str, Any]
    """The request's members but for the body, by their names in the service model."""
    forwarded: dict[str, str]
    """The headers that the model server gets to see: media types and SageMaker's own, never the signature."""
    body: Payload
    received: float
    """When all of it was there (time.monotonic)."""

    @classmethod
    async def receive(cls, platform: Platform, request: Request, authenticate: Authenticate) -> Invocation:
        """Raises an ApiError for a call that is not to be answered; the caller closes `body`."""
        operation = OPERATIONS[request.url.path.rpartition("/")[2]]
        name = request.path_params["name"]
        authenticate(None)
        body = Payload(platform.settings.root)
        try:
            size, digest = await _receive(request, body, limit := _limit(operation))
            authenticate(digest)
            if size > limit:
                raise ApiError("ValidationError", f"the request body has {size} bytes; at most {limit} are accepted")
            members = _members(operation, name, request.headers)
            for member, reason in _NOT_APPLICABLE.items():
                if member in members:
                    raise ApiError("ValidationError", f"{member} does not apply to endpoint {name}: {reason}.")
        except BaseException:
            body.close()
            raise
        return cls(
            operation=operation,
            endpoint=name,
            members=members,
            forwarded=_forwarded(operation, members),
            body=body,
            received=time.monotonic(),
        )


def _limit(operation: str) -> int:
    return MAX_INLINE_BYTES if operation == "InvokeEndpointAsync" else MAX_BODY_BYTES


async def _receive(request: Request, body: Payload, limit: int) -> tuple[int, str]:
    """Read the body, in bounded memory and time; returns its size and SHA-256. What is over the limit is not kept."""
    digest, size = hashlib.sha256(), 0
    try:
        async with asyncio.timeout(_RECEIVE_TIMEOUT_S):
            async for chunk in request.stream():
                digest.update(chunk)
                size += len(chunk)
                if size <= limit:
                    body.write(chunk)
                elif size > _MAX_DROPPED_BYTES:
                    raise ApiError("ValidationError", f"the request body has more than {_MAX_DROPPED_BYTES} bytes")
    except TimeoutError:
        raise ApiError(
            "RequestTimeoutException", f"the request body did not arrive within {_RECEIVE_TIMEOUT_S:.0f} s", 408
        ) from None
    return size, digest.hexdigest()


@functools.cache
def _headers(operation: str) -> dict[str, tuple[str, str]]:
    """Member → (header in lower case, type) of an operation."""
    model = service_model.operation("sagemaker-runtime", operation)
    assert model is not None and model.input_shape is not None
    return {
        name: (shape.serialization["name"].lower(), shape.type_name)
        for name, shape in model.input_shape.members.items()
        if shape.serialization.get("location") == "header"
    }


def _members(operation: str, endpoint: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Raises a ValidationError, with every violation in it. The data plane's code for it lacks the `Exception`."""
    found: dict[str, Any] = {}
    for member, (header, kind) in _headers(operation).items():
        value = headers.get(header)
        if value is not None:
            found[member] = _integer(header, value) if kind == "integer" else value
    try:
        checked = service_model.check_request(
            "sagemaker-runtime", operation, {**found, "EndpointName": endpoint, "Body": ""}
        )
    except ApiError as error:
        raise ApiError("ValidationError", error.message) from None
    return {member: checked[member] for member in found}


def _integer(header: str, value: str) -> int:
    if not value.isdecimal() or len(value) > 9:
        raise ApiError("ValidationError", f"{header} is '{value}'; it must be a whole number of seconds")
    return int(value)


def _forwarded(operation: str, members: dict[str, Any]) -> dict[str, str]:
    """A container gets its media types in Content-Type and Accept, whatever headers the operation has for them."""
    headers = {header: str(members[member]) for member, (header, _) in _headers(operation).items() if member in members}
    for member, header in (("ContentType", "content-type"), ("Accept", "accept")):
        headers.pop(_headers(operation)[member][0], None)
        if member in members:
            headers[header] = members[member]
    return headers
