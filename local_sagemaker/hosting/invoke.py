"""The data plane: InvokeEndpoint, passed on to the worker that serves the endpoint's variant."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import Response

from local_sagemaker.hosting.endpoint import INVOCATION_TIMEOUT_S, Lease
from local_sagemaker.platform import Platform, log
from local_sagemaker.state import logs
from local_sagemaker.wire.errors import ApiError

MAX_BODY_BYTES = 25 * 2**20
"""SageMaker's limit of a real-time request, and of its answer."""

_READY_TIMEOUT_S = 30.0
"""How long a request waits for a worker that is being restarted, before it is told to try again."""

_ORIGINAL_MESSAGE_LIMIT = 4096
_PREFIX = "x-amzn-sagemaker-"
_TARGET_VARIANT = "x-amzn-sagemaker-target-variant"
_ANSWERED = (
    "x-amzn-sagemaker-custom-attributes",
    "x-amzn-sagemaker-new-session-id",
    "x-amzn-sagemaker-closed-session-id",
)

_CRASHED = "An error occurred while handling request as the model process exited."
_TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. "
    "Review the latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)


async def invoke_endpoint(platform: Platform, request: Request, name: str) -> Response:
    """Answer one invocation; what is wrong with it, or with the model, is an answer too."""
    try:
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(
                "ValidationError", f"the request body has {len(body)} bytes; at most {MAX_BODY_BYTES} are accepted"
            )
        return await _invoke(platform, name, dict(request.headers), body)
    except ApiError as error:
        return _error(error.code, error.status, {"message": error.message})
    except Exception:
        log.exception("invocation of endpoint '%s'", name)
        return _error("InternalFailure", 500, {"message": "local_sagemaker failed; its log has the traceback"})


async def _invoke(platform: Platform, name: str, headers: dict[str, str], body: bytes) -> Response:
    give_up = time.monotonic() + _READY_TIMEOUT_S
    while True:
        lease = await _lease(platform, name, headers.get(_TARGET_VARIANT), give_up)
        try:
            async with asyncio.timeout(INVOCATION_TIMEOUT_S):
                answer = await platform.endpoints.client.post(
                    f"{lease.url}/invocations", headers=_forwarded(headers), content=body
                )
            return _answer(platform, name, lease, answer)
        except httpx.ConnectError:
            # Nothing was sent: the worker has just died. The next one may have this request.
            lease.lost()
        except (TimeoutError, httpx.TimeoutException):
            return _model_error(platform, name, 0, _TIMED_OUT)
        except httpx.TransportError:
            lease.lost()
            return _model_error(platform, name, 0, _CRASHED)
        finally:
            lease.release()


async def _lease(platform: Platform, name: str, variant: str | None, give_up: float) -> Lease:
    """A worker for this request. Raises a ServiceUnavailable when none is ready by then."""
    while time.monotonic() < give_up:
        lease = platform.endpoints.acquire(platform, name, variant)
        if lease:
            return lease
        await asyncio.sleep(0.05)
    raise ApiError(
        "ServiceUnavailable",
        f"The model server of endpoint {name} is being restarted; try again. Its log is in {_group(name)}.",
        503,
    )


def _forwarded(headers: dict[str, str]) -> dict[str, str]:
    """What the model server gets to see: the media types and SageMaker's own headers, never the signature."""
    return {
        key: value for key, value in headers.items() if key in ("content-type", "accept") or key.startswith(_PREFIX)
    }


def _answer(platform: Platform, name: str, lease: Lease, answer: httpx.Response) -> Response:
    if answer.status_code >= 300:
        return _model_error(platform, name, answer.status_code, answer.text)
    headers = {"x-Amzn-Invoked-Production-Variant": lease.variant, "x-amzn-RequestId": str(uuid.uuid4())}
    headers |= {key: answer.headers[key] for key in ("content-type", *_ANSWERED) if key in answer.headers}
    return Response(answer.content, 200, headers)


def _model_error(platform: Platform, name: str, status: int, message: str) -> Response:
    """What the container answered with, or did not answer (status 0), as SageMaker reports it."""
    settings = platform.settings
    original = message[:_ORIGINAL_MESSAGE_LIMIT]
    kind = "client" if 400 <= status < 500 else "server"
    console = f"https://{settings.region}.console.aws.amazon.com/cloudwatch/home?region={settings.region}"
    text = (
        f'Received {kind} error ({status}) from primary with message "{original}". '
        f"See {console}#logEventViewer:group={_group(name)} in account {settings.account} for more information."
    )
    content = {
        "Message": text,
        "OriginalStatusCode": status,
        "OriginalMessage": original,
        "LogStreamArn": f"arn:aws:logs:{settings.region}:{settings.account}:log-group:{_group(name)}",
    }
    return _error("ModelError", 424, content)


def _error(code: str, status: int, content: dict[str, Any]) -> Response:
    headers = {"x-amzn-ErrorType": code, "x-amzn-RequestId": str(uuid.uuid4())}
    return Response(json.dumps(content), status, headers, media_type="application/json")


def _group(name: str) -> str:
    return f"{logs.ENDPOINTS}/{name}"
