"""The data plane: calls of an endpoint, passed on to the workers that serve it, and their answers passed back.

InvokeEndpoint sends its answer when all of it is there, so that a model that fails half-way is an error and not a torn
answer. InvokeEndpointWithResponseStream sends each piece when the model does, and ends with an error event.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import httpx
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from local_sagemaker.background import log
from local_sagemaker.hosting import data_capture, event_stream, exchange
from local_sagemaker.hosting.async_inference import AsyncInference
from local_sagemaker.hosting.data_capture import Captured, DataCapture
from local_sagemaker.hosting.deployed import Deployed
from local_sagemaker.hosting.endpoint import Endpoints
from local_sagemaker.hosting.exchange import Exchange, InvocationTimeoutError, ModelError
from local_sagemaker.hosting.invocation import MAX_BODY_BYTES, Authenticate, Invocation
from local_sagemaker.hosting.payload import MEMORY_BYTES, Payload
from local_sagemaker.hosting.sessions import Sessions
from local_sagemaker.hosting.traffic import INVOCATION_TIMEOUT_S, Lease
from local_sagemaker.platform import Platform
from local_sagemaker.settings import Settings
from local_sagemaker.state import logs
from local_sagemaker.wire.errors import ApiError

STREAM_TIMEOUT_S = 480.0
"""The longest a streamed answer may take."""

MAX_SERVERLESS_BYTES = 4 * 2**20
"""SageMaker's limit of a request to a serverless endpoint."""

_MAX_IN_FLIGHT = 2000
"""More at once would run out of file descriptors: a call takes two, and one for each large body."""

_TAKEN_WITHIN_S = STREAM_TIMEOUT_S + 60.0
"""How long a client may take to read an answer. One that stopped without leaving would keep its worker for ever."""

_CLIENT_LEFT = 499

_ANSWERED = (
    "x-amzn-sagemaker-custom-attributes",
    "x-amzn-sagemaker-new-session-id",
    "x-amzn-sagemaker-closed-session-id",
)


class DataPlane:
    """For the one event loop that serves."""

    def __init__(
        self, platform: Platform, endpoints: Endpoints, async_inference: AsyncInference, data_capture: DataCapture
    ) -> None:
        self._platform = platform
        self._endpoints = endpoints
        self._async_inference = async_inference
        self._data_capture = data_capture
        self._in_flight = 0
        self._sessions = Sessions()

    @functools.cached_property
    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        # Workers speak plain HTTP, so no certificates are loaded.
        return httpx.AsyncClient(limits=limits, timeout=None, trust_env=False, verify=False)

    async def answer(self, request: Request, authenticate: Authenticate) -> Response:
        """Answer one call; what is wrong with it, or with the model, is an answer too."""
        if self._in_flight >= _MAX_IN_FLIGHT:
            return _error("ThrottlingException", 429, f"{_MAX_IN_FLIGHT} invocations are in flight; try again.")
        try:
            async with contextlib.AsyncExitStack() as resources:
                self._in_flight += 1
                resources.callback(self._leave)
                invocation = await Invocation.receive(self._platform, request, authenticate)
                resources.callback(invocation.body.close)
                return await _while_connected(request, self._answer(invocation, resources))
        except ApiError as error:
            return _error(error.code, error.status, error.message)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_LEFT)
        except Exception:
            log.exception("%s", request.url.path)
            return _error("InternalFailure", 500, "local_sagemaker failed; its log has the traceback")

    def _leave(self) -> None:
        self._in_flight -= 1

    async def _answer(self, invocation: Invocation, resources: contextlib.AsyncExitStack) -> Response:
        """The `resources` are given back by the answer where it is made of them, else by the caller."""
        if invocation.operation == "InvokeEndpointAsync":
            return await self._accept(invocation)
        call = _Call(
            self._platform, self._endpoints, self._data_capture, self._client, self._sessions, invocation, resources
        )
        try:
            whole = invocation.operation == "InvokeEndpoint"
            answer = await (call.whole() if whole else call.streamed())
        except ModelError as error:
            call.count(error)
            return _model_error(self._platform.settings, invocation.endpoint, error)
        return _Answer(call, answer, resources.pop_all())

    async def _accept(self, invocation: Invocation) -> Response:
        accepted = await run_in_threadpool(self._async_inference.accept, invocation)
        headers = {
            "x-amzn-sagemaker-outputlocation": accepted.output_uri,
            "x-amzn-sagemaker-failurelocation": accepted.failure_uri,
            "x-amzn-RequestId": str(uuid.uuid4()),
        }
        content = json.dumps({"InferenceId": accepted.inference_id})
        return Response(content, 202, headers, media_type="application/json")


class _Answer(Response):
    """An answer that gives back what it was made of once it has been sent, or could not be."""

    def __init__(self, call: _Call, response: Response, resources: contextlib.AsyncExitStack) -> None:
        self._call = call
        self._response = response
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._resources:
            try:
                async with asyncio.timeout(_TAKEN_WITHIN_S):
                    await self._response(scope, receive, send)  # returns also when the client has left
            except TimeoutError:
                log.warning("%s: the client does not take its answer and is cut off", scope["path"])
                return
            await self._call.capture(self._response.headers)


class _Call:
    """A real-time invocation on its way."""

    def __init__(
        self,
        platform: Platform,
        endpoints: Endpoints,
        data_capture: DataCapture,
        client: httpx.AsyncClient,
        sessions: Sessions,
        invocation: Invocation,
        resources: contextlib.AsyncExitStack,
    ) -> None:
        self._platform = platform
        self._endpoints = endpoints
        self._data_capture = data_capture
        self._client = client
        self._sessions = sessions
        self._invocation = invocation
        self._resources = resources
        self._lease: Lease | None = None
        """Whom it was sent to, by now."""
        self._asked = time.time()
        self._capture: dict[str, Any] | None = None
        """The DataCaptureConfig, when this call is one of those to be captured."""
        self._answer = Payload(platform.settings.root)
        resources.callback(self._answer.close)
        self._complete = False
        """Whether the model has given its whole answer."""

    async def whole(self) -> Response:
        """InvokeEndpoint. Raises ModelError."""
        worker = await self._send(INVOCATION_TIMEOUT_S)
        try:
            async for chunk in worker.chunks():
                if self._answer.size + len(chunk) > MAX_BODY_BYTES:
                    raise ModelError(0, f"The answer of the model has more than {MAX_BODY_BYTES} bytes.")
                self._answer.write(chunk)
        finally:
            await worker.close()
        self._complete = True
        self.count(None, time.monotonic() - worker.sent)
        headers = _answered(worker, "content-type") | {"content-length": str(self._answer.size)}
        if self._answer.size <= MEMORY_BYTES:
            return Response(self._answer.read(), 200, headers)
        return StreamingResponse(self._answer.stream(), 200, headers)

    async def streamed(self) -> Response:
        """InvokeEndpointWithResponseStream. Raises ModelError before the first byte; later it is an event."""
        worker = await self._send(STREAM_TIMEOUT_S)
        self._resources.push_async_callback(worker.close)
        headers = _answered(worker, "x-amzn-sagemaker-content-type")
        return StreamingResponse(self._events(worker), 200, headers, media_type=event_stream.CONTENT_TYPE)

    async def _send(self, timeout_s: float) -> Exchange:
        invocation = self._invocation
        deployed = Deployed.find(self._platform.store, self._platform.settings, invocation.endpoint)
        if deployed.asynchronous:
            raise ApiError(
                "ValidationError",
                f"Endpoint {invocation.endpoint} is an asynchronous endpoint (its configuration has an "
                "AsyncInferenceConfig); call InvokeEndpointAsync.",
            )
        if deployed.serverless and invocation.body.size > MAX_SERVERLESS_BYTES:
            raise ApiError(
                "ValidationError",
                f"the request body has {invocation.body.size} bytes; a serverless endpoint accepts at most "
                f"{MAX_SERVERLESS_BYTES}",
            )
        if data_capture.wanted(deployed.data_capture):
            self._capture = deployed.data_capture
        worker = await exchange.send(
            self._endpoints,
            self._client,
            invocation.endpoint,
            invocation.body,
            invocation.forwarded,
            variant=self._invocation.members.get("TargetVariant"),
            preferred=self._sessions.worker(invocation.endpoint, invocation.members.get("SessionId")),
            timeout_s=timeout_s,
        )
        self._lease = worker.lease
        self._sessions.note(invocation.endpoint, worker.headers, worker.lease.slot)
        return worker

    async def _events(self, worker: Exchange) -> AsyncIterator[bytes]:
        try:
            async for chunk in worker.chunks():
                if self._capture and self._answer.size + len(chunk) <= MAX_BODY_BYTES:
                    self._answer.write(chunk)
                yield event_stream.event("PayloadPart", chunk)
            self._complete = True
            self.count(None, time.monotonic() - worker.sent)
        except ModelError as error:
            self.count(error)
            code = "ModelInvocationTimeExceeded" if isinstance(error, InvocationTimeoutError) else "StreamBroken"
            yield event_stream.exception("ModelStreamError", Message=error.original, ErrorCode=code)
        except Exception:
            log.exception("stream of endpoint '%s'", self._invocation.endpoint)
            yield event_stream.exception("InternalStreamFailure", Message="local_sagemaker failed; see its log.")

    def count(self, error: ModelError | None, model_latency_s: float | None = None) -> None:
        """What CloudWatch shows of it: one value of each metric per call, so that averages are rates."""
        if error and error.lease:
            self._lease = error.lease
        status = error.status if error else 200
        values = {
            "Invocations": 1.0,
            "Invocation4XXErrors": float(400 <= status < 500),
            "Invocation5XXErrors": float(status >= 500),
            "InvocationModelErrors": float(error is not None),
        }
        for name, value in values.items():
            self._put(name, value, "None")
        if model_latency_s is not None:
            total_s = time.monotonic() - self._invocation.received
            self._put("ModelLatency", 1e6 * model_latency_s, "Microseconds")
            self._put("OverheadLatency", 1e6 * (total_s - model_latency_s), "Microseconds")

    def _put(self, name: str, value: float, unit: str) -> None:
        dimensions = {"EndpointName": self._invocation.endpoint, "VariantName": self._variant}
        self._platform.metrics.put("AWS/SageMaker", name, dimensions, value, unit)
        if self._lease and self._lease.config:  # so that an alarm can watch one of the two fleets
            dimensions["EndpointConfigName"] = self._lease.config
            self._platform.metrics.put("AWS/SageMaker", name, dimensions, value, unit)

    @property
    def _variant(self) -> str:
        """The one that was asked; before that, the one that is wanted."""
        return self._lease.variant if self._lease else self._invocation.members.get("TargetVariant", "")

    async def capture(self, headers: Any) -> None:
        """After the answer has been sent, so that nobody waits for it."""
        if self._capture is None or not self._complete:
            return
        members = self._invocation.members
        captured = Captured(
            endpoint=self._invocation.endpoint,
            variant=self._variant,
            request=self._invocation.body,
            request_type=members.get("ContentType", ""),
            answer=self._answer,
            answer_type=headers.get("x-amzn-sagemaker-content-type", headers.get("content-type", "")),
            time=self._asked,
            inference_id=members.get("InferenceId"),
            custom_attributes=members.get("CustomAttributes"),
        )
        await run_in_threadpool(self._data_capture.put, self._capture, captured)


async def _while_connected(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """The answer; when the client leaves before it is there, the work is cancelled."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())  # after the body there is nothing but the disconnection
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        return Response(status_code=_CLIENT_LEFT)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


def _answered(worker: Exchange, content_type: str) -> dict[str, str]:
    """The model's headers that the client gets, its media type under the name `content_type`."""
    headers = {"x-Amzn-Invoked-Production-Variant": worker.lease.variant, "x-amzn-RequestId": str(uuid.uuid4())}
    for ours, theirs in ((content_type, "content-type"), *((name, name) for name in _ANSWERED)):
        value = worker.headers.get(theirs)
        if value is not None and value.isascii():
            headers[ours] = value
    return headers


def _model_error(settings: Settings, endpoint: str, error: ModelError) -> Response:
    group = f"arn:aws:logs:{settings.region}:{settings.account}:log-group:{logs.ENDPOINTS}/{endpoint}"
    return _error(
        "ModelError",
        424,
        error.message(settings, endpoint),
        OriginalStatusCode=error.status,
        OriginalMessage=error.original,
        LogStreamArn=group,
    )


def _error(code: str, status: int, message: str, **members: Any) -> Response:
    headers = {"x-amzn-ErrorType": code, "x-amzn-RequestId": str(uuid.uuid4())}
    content = {"Message": message} | members
    return Response(json.dumps(content), status, headers, media_type="application/json")
