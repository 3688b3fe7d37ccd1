"""An endpoint is asked only as it was seen.

SageMaker takes no condition with UpdateEndpoint, DeleteEndpoint and CreateEndpoint. So the endpoint is described once
more when the request is signed already: a process that slept before that sees what happened meanwhile, and one that
sleeps after it sends a signature that AWS takes for five minutes only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from retraining.release.endpoint import describe_endpoint

SEEN = ("EndpointStatus", "EndpointConfigName", "LastModifiedTime")

# A client may be shared, and botocore tells every look of every request.
_asking: ContextVar[Callable[..., None] | None] = ContextVar("asking", default=None)


class NotAsSeen(Exception):
    """The endpoint is no longer as it was seen, and was not asked."""


def ask_as_seen(method: str, sagemaker: Any, seen: Mapping[str, Any] | None, request: Mapping[str, Any]) -> None:
    """Calls a method of the client, such as update_endpoint, with `request`, which names the endpoint.

    `seen` is what DescribeEndpoint said, None where there was none. NotAsSeen where it says something else now,
    also when boto3 is about to repeat a request whose answer was lost.
    """
    name = request["EndpointName"]

    def look(**_: Any) -> None:
        if _asking.get() is not look:
            return
        now = describe_endpoint(sagemaker, name)
        if _state(now) != _state(seen):
            raise NotAsSeen(f"Endpoint {name} was {_words(seen)}, and now is {_words(now)}: it is asked nothing.")

    operation = sagemaker.meta.method_to_api_mapping[method]
    event = f"before-send.{sagemaker.meta.service_model.service_id.hyphenize()}.{operation}"
    sagemaker.meta.events.register_first(event, look)
    asking = _asking.set(look)
    try:
        getattr(sagemaker, method)(**request)
    finally:
        _asking.reset(asking)
        sagemaker.meta.events.unregister(event, look)


def _state(endpoint: Mapping[str, Any] | None) -> tuple[Any, ...] | None:
    return tuple(endpoint[key] for key in SEEN) if endpoint else None


def _words(endpoint: Mapping[str, Any] | None) -> str:
    if endpoint is None:
        return "not there"
    status, config, modified = (endpoint[key] for key in SEEN)
    return f"{status} on {config} since {modified:%Y-%m-%d %H:%M:%S %Z}"
