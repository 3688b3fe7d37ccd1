"""One queued invocation, from its input to its object in S3."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import botocore.exceptions
import httpx

from local_sagemaker.background import log
from local_sagemaker.hosting import data_capture, exchange
from local_sagemaker.hosting.async_queue import AsyncQueue, Outcome, Queued
from local_sagemaker.hosting.data_capture import Captured, DataCapture
from local_sagemaker.hosting.deployed import Deployed
from local_sagemaker.hosting.endpoint import Endpoints
from local_sagemaker.hosting.exchange import InvocationTimeoutError, ModelError
from local_sagemaker.hosting.invocation import MAX_BODY_BYTES
from local_sagemaker.hosting.payload import Payload
from local_sagemaker.hosting.traffic import Lease
from local_sagemaker.platform import Platform
from local_sagemaker.state import logs
from local_sagemaker.wire.errors import ApiError

MAX_PAYLOAD_BYTES = 2**30
"""SageMaker's limit of an asynchronous input; here also of an answer."""

GIVE_UP_S = 3600.0
"""How long an outcome that S3 does not take is kept."""

_MAX_LOSSES = 3
_POLL_S = 0.1
_MAX_PAUSE_S = 30.0
_CHUNK_BYTES = 2**18


class ShutDownError(Exception):
    """This server ends; the next one goes on with the invocation."""


class _FailedError(Exception):
    """There will be no answer; the message says why."""


class _ExpiredError(_FailedError):
    """It waited for too long."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsyncRequest:
    """What was asked for, as the queue keeps it."""

    headers: dict[str, str]
    input_uri: str | None
    """None for a body of its own."""
    output_uri: str
    failure_uri: str
    inference_id: str
    ttl_s: float
    timeout_s: float
    success_topic: str | None
    error_topic: str | None


class AsyncWork:
    """Used by one thread."""

    def __init__(
        self,
        platform: Platform,
        endpoints: Endpoints,
        data_capture: DataCapture,
        queue: AsyncQueue,
        client: httpx.Client,
        folder: Path,
        closed: threading.Event,
        queued: Queued,
    ) -> None:
        self._platform = platform
        self._endpoints = endpoints
        self._data_capture = data_capture
        self._queue = queue
        self._client = client
        self._closed = closed
        self._queued = queued
        self._request = AsyncRequest(**queued.request)
        self._input = folder / f"{queued.id}.in"
        self._answer = folder / f"{queued.id}.out"
        self._began = time.time()
        self._variant = "async"

    def run(self) -> None:
        """Returns when the outcome lies in S3. Raises ShutDownError."""
        outcome = self._queued.outcome
        if outcome is None or (outcome.failure is None and not self._answer.exists()):
            outcome = self._decide()
        outcome = self._deliver(outcome)
        self._queue.remove(self._queued.id)
        self._input.unlink(missing_ok=True)
        self._answer.unlink(missing_ok=True)
        self._tell(outcome)

    def _decide(self) -> Outcome:
        try:
            outcome = self._ask()
        except ModelError as error:
            outcome = Outcome(failure=error.message(self._platform.settings, self._queued.endpoint))
        except _ExpiredError as error:
            self._put("ExpiredRequests", 1.0, "None")
            outcome = Outcome(failure=str(error))
        except _FailedError as error:
            outcome = Outcome(failure=str(error))
        self._queue.decide(self._queued.id, outcome)
        if outcome.failure is None:
            self._capture(outcome)
        return outcome

    def _capture(self, outcome: Outcome) -> None:
        try:
            config = Deployed.find(self._platform.store, self._platform.settings, self._queued.endpoint).data_capture
        except ApiError:  # it has been deleted meanwhile
            return
        if config is None or not data_capture.wanted(config):
            return
        headers = self._request.headers
        with contextlib.ExitStack() as resources, self._body() as body, self._answer.open("rb") as answer:
            request_payload, answer_payload = (Payload(self._input.parent) for _ in range(2))
            resources.callback(request_payload.close)
            resources.callback(answer_payload.close)
            for payload, chunks in ((request_payload, body), (answer_payload, _chunks(answer))):
                for chunk in chunks:
                    payload.write(chunk)
                    if payload.size > MAX_BODY_BYTES:
                        return
            captured = Captured(
                endpoint=self._queued.endpoint,
                variant=self._variant,
                request=request_payload,
                request_type=headers.get("content-type", ""),
                answer=answer_payload,
                answer_type=outcome.content_type,
                time=self._began,
                inference_id=self._request.inference_id,
                custom_attributes=headers.get("x-amzn-sagemaker-custom-attributes"),
            )
            self._data_capture.put(config, captured)

    # -- the model ------------------------------------------------------------------------------------------------

    def _ask(self) -> Outcome:
        self._fetch_input()
        while True:
            lease = self._lease()
            try:
                return self._exchange(lease)
            except httpx.ConnectError:
                lease.lost()  # nothing was sent
            except httpx.TimeoutException:
                lease.timed_out()
                raise InvocationTimeoutError from None
            except httpx.TransportError:
                lease.lost()
                if self._closed.wait(_POLL_S):  # this server has ended the worker
                    raise ShutDownError from None
                if self._queue.lose(self._queued.id) >= _MAX_LOSSES:
                    raise ModelError(0, exchange.CRASHED) from None
            finally:
                lease.release()

    def _fetch_input(self) -> None:
        uri = self._request.input_uri
        if uri is None:
            return
        for _ in self._attempts(0.5, _MAX_PAUSE_S):
            try:
                return self._download(uri)
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
                if _is_refusal(error):
                    raise _FailedError(f"The input {uri} cannot be read: {error}") from error
                log.warning("asynchronous invocation '%s': %s cannot be read: %s", self._queued.id, uri, error)

    def _download(self, uri: str) -> None:
        size, chunks = self._platform.objects.stream(uri)
        with contextlib.closing(chunks), self._input.open("wb") as file:
            if size > MAX_PAYLOAD_BYTES:
                raise _FailedError(f"The input {uri} has {size} bytes; at most {MAX_PAYLOAD_BYTES} are accepted.")
            for chunk in chunks:
                file.write(chunk)
        # What the call does not name is as the object has it; the SageMaker SDK relies on that.
        self._request.headers.setdefault("content-type", self._platform.objects.content_type(uri))

    def _lease(self) -> Lease:
        for _ in self._attempts(_POLL_S, 1.0):
            try:
                lease = self._endpoints.acquire(self._queued.endpoint, None)
            except ApiError as error:
                raise _FailedError(error.message) from None
            if lease:
                self._variant = lease.variant
                return lease
        raise AssertionError("attempts end in an exception")

    def _attempts(self, pause_s: float, most_s: float) -> Iterator[None]:
        """One more attempt each time, with growing pauses; ends in ShutDownError or in the invocation's expiry."""
        while True:
            if self._closed.is_set():
                raise ShutDownError
            age = time.time() - self._queued.accepted
            if age > self._request.ttl_s:
                raise _ExpiredError(
                    f"The request expired: it waited {age:.0f} s, its RequestTTLSeconds are {self._request.ttl_s:.0f}."
                )
            yield
            self._closed.wait(pause_s)
            pause_s = min(most_s, 2 * pause_s)

    def _exchange(self, lease: Lease) -> Outcome:
        """Send it to a worker and keep the answer, durably. Raises httpx's errors as they are, and ModelError."""
        deadline = time.monotonic() + self._request.timeout_s
        size = len(self._queued.body) if self._queued.body is not None else self._input.stat().st_size
        own = {"accept": "*/*", "accept-encoding": "identity", "connection": "close", "content-length": str(size)}
        with (
            self._body() as body,
            self._client.stream(
                "POST",
                f"{lease.url}/invocations",
                headers=own | self._request.headers,
                content=body,
                timeout=httpx.Timeout(self._request.timeout_s),
            ) as response,
        ):
            lease.answered()
            self._keep(response, deadline)
        if response.status_code >= 300:
            with self._answer.open("rb") as file:
                raise ModelError(response.status_code, file.read(2**15).decode(errors="replace"))
        return Outcome(failure=None, content_type=response.headers.get("content-type", "application/octet-stream"))

    @contextlib.contextmanager
    def _body(self) -> Iterator[Iterable[bytes]]:
        if self._queued.body is not None:
            yield [self._queued.body]
            return
        with self._input.open("rb") as file:
            yield _chunks(file)

    def _keep(self, response: httpx.Response, deadline: float) -> None:
        with self._answer.open("wb") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                if file.tell() > MAX_PAYLOAD_BYTES:
                    raise ModelError(0, f"The answer of the model has more than {MAX_PAYLOAD_BYTES} bytes.")
                if time.monotonic() > deadline:
                    raise InvocationTimeoutError
            file.flush()
            os.fsync(file.fileno())

    # -- S3 -------------------------------------------------------------------------------------------------------

    def _deliver(self, outcome: Outcome) -> Outcome:
        """Upload the outcome; returns the one that was, because an output that S3 refuses becomes a failure."""
        deadline, pause_s = time.monotonic() + GIVE_UP_S, 0.5
        while True:
            try:
                self._upload(outcome)
                return outcome
            except Exception as error:
                if outcome.failure is None and _is_refusal(error):
                    outcome = Outcome(failure=f"The output cannot be written to {self._request.output_uri}: {error}")
                    self._queue.decide(self._queued.id, outcome)
                    continue
                log.warning("asynchronous invocation '%s': S3 does not take its outcome: %s", self._queued.id, error)
                if time.monotonic() > deadline:
                    self._say(f"the outcome of '{self._request.inference_id}' is given up: {error}")
                    return outcome
            if self._closed.wait(pause_s):
                raise ShutDownError
            pause_s = min(_MAX_PAUSE_S, 2 * pause_s)

    def _upload(self, outcome: Outcome) -> None:
        objects = self._platform.objects
        if outcome.failure is None:
            with self._answer.open("rb") as file:
                objects.write_file(file, self._request.output_uri, outcome.content_type)
        else:
            objects.write(self._request.failure_uri, outcome.failure.encode(), "text/plain")

    # -- what is told about it ------------------------------------------------------------------------------------

    def _tell(self, outcome: Outcome) -> None:
        request, now = self._request, time.time()
        failed = outcome.failure is not None
        in_backlog_ms, total_ms = (1e3 * (moment - self._queued.accepted) for moment in (self._began, now))
        self._put("InvocationFailures" if failed else "InvocationsProcessed", 1.0, "None")
        self._put("TimeInBacklog", in_backlog_ms, "Milliseconds")
        self._put("TotalProcessingTime", total_ms, "Milliseconds")
        self._put("ApproximateBacklogSize", float(self._queue.backlog(self._queued.endpoint)), "None")
        self._say(
            f"[{request.inference_id}] Inference request {'failed' if failed else 'succeeded'}. "
            f"TimeInBacklog: {in_backlog_ms:.0f} ms, TotalProcessingTime: {total_ms:.0f} ms"
            f"{f': {outcome.failure}' if failed else ''}"
        )
        if topic := request.error_topic if failed else request.success_topic:
            self._say(f"[{request.inference_id}] SageMaker would notify {topic}; there is no SNS here, nothing is sent")

    def _put(self, name: str, value: float, unit: str) -> None:
        self._platform.metrics.put("AWS/SageMaker", name, {"EndpointName": self._queued.endpoint}, value, unit)

    def _say(self, message: str) -> None:
        group = f"{logs.ENDPOINTS}/{self._queued.endpoint}"
        self._platform.logs.put(group, f"{self._variant}/data-log", [message])


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(_CHUNK_BYTES), b"")


def _is_refusal(error: Exception) -> bool:
    """Whether S3 has said no, and will say so again: no such bucket, no right to write there."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, botocore.exceptions.ClientError):
        cause = cause.__cause__
    return cause is not None and cause.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403, 404)
