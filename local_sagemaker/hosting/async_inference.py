"""InvokeEndpointAsync: invocations that are queued, worked off by an endpoint's workers, and answered into S3.

Every acknowledged invocation ends in exactly one object: its output, or a failure in words. It is tried again when a
worker dies over it, three times in all, and whenever this server has ended before it was done; so a model may see a
request more than once. What can be refused at once is refused in the call; a missing input object is a failure later,
as on AWS. When its endpoint is deleted, what still waits fails. Nothing is sent to SNS topics: what would be is a line
in the endpoint's log.

Where AWS is silent: without an S3FailurePath a failure lies beside where the output would; the failure of an invocation
with a Filename is `<filename>-error.out`; without MaxConcurrentInvocationsPerInstance an endpoint works on four at
once; an expired invocation fails when its turn comes. An outcome that S3 does not take is tried again for an hour.

Concurrency contract: any thread may call any method. Invocations are worked off by threads that exist only while there
is something to do, a few per endpoint; their payloads lie on disk.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
import time
import uuid
from typing import Any

import httpx

from local_sagemaker import s3
from local_sagemaker.background import log
from local_sagemaker.failures import JobFailedError
from local_sagemaker.hosting.async_queue import AsyncQueue, Queued, QueueFullError
from local_sagemaker.hosting.async_work import AsyncRequest, AsyncWork, ShutDownError
from local_sagemaker.hosting.data_capture import DataCapture
from local_sagemaker.hosting.deployed import Deployed
from local_sagemaker.hosting.endpoint import Endpoints
from local_sagemaker.hosting.invocation import Invocation
from local_sagemaker.platform import Platform
from local_sagemaker.settings import Settings
from local_sagemaker.state.store import Store
from local_sagemaker.wire.errors import ApiError

DEFAULT_TTL_S = 21_600
DEFAULT_TIMEOUT_S = 900

_DEFAULT_CONCURRENCY = 4
_MAX_THREADS = 32
_PAUSE_S = 5.0
_CLOSE_S = 5.0


class AsyncInference:
    def __init__(self, platform: Platform, endpoints: Endpoints, data_capture: DataCapture) -> None:
        """Raises ValueError for a queue file that is broken."""
        self._platform = platform
        self._endpoints = endpoints
        self._data_capture = data_capture
        self._queue = AsyncQueue(platform.settings.root / "async.db")
        self._folder = platform.settings.root / "async"
        self._lock = threading.Lock()
        self._threads: dict[str, set[threading.Thread]] = {}
        """The threads at work, by endpoint."""
        self._closed = threading.Event()

    @functools.cached_property
    def _client(self) -> httpx.Client:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        # Workers speak plain HTTP, so no certificates are loaded.
        return httpx.Client(limits=limits, trust_env=False, verify=False)

    def start(self) -> None:
        """Go on with what an earlier server has accepted."""
        self._folder.mkdir(parents=True, exist_ok=True)
        known = self._queue.ids()
        for path in self._folder.iterdir():
            if path.stem not in known:
                path.unlink()
        for endpoint in self._queue.endpoints():
            for _ in range(min(_MAX_THREADS, self._queue.backlog(endpoint))):
                self._wake(endpoint)

    def close(self) -> None:
        """Begin nothing more, and leave what is not done to the next server. Called before the workers are ended."""
        self._closed.set()

    def join(self) -> None:
        """Wait for the threads, whose workers have been ended, and close the queue."""
        deadline = time.monotonic() + _CLOSE_S
        with self._lock:
            threads = [thread for threads in self._threads.values() for thread in threads]
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._queue.close()

    def accept(self, invocation: Invocation) -> AsyncRequest:
        """Queue an invocation, durably. Raises an ApiError for one that cannot be."""
        config = Deployed.find(self._platform.store, self._platform.settings, invocation.endpoint).asynchronous
        if config is None:
            raise ApiError(
                "ValidationError",
                f"Endpoint {invocation.endpoint} is not an asynchronous endpoint: its configuration has no "
                "AsyncInferenceConfig. Call InvokeEndpoint.",
            )
        _check(invocation)
        identity = str(uuid.uuid4())
        request = _request(config["OutputConfig"], invocation, identity)
        try:
            self._queue.put(
                Queued(
                    id=identity,
                    endpoint=invocation.endpoint,
                    accepted=time.time(),
                    request=dataclasses.asdict(request),
                    body=None if request.input_uri else invocation.body.read(),
                )
            )
        except QueueFullError as error:
            raise ApiError("ServiceUnavailable", f"{error}; try again.", 503) from None
        self._wake(invocation.endpoint)
        return request

    # -- threads --------------------------------------------------------------------------------------------------

    def _wake(self, endpoint: str) -> None:
        """Have one thread more at work for an endpoint, unless it has as many as it may."""
        limit = _concurrency(self._platform.store, self._platform.settings, endpoint)
        with self._lock:
            threads = self._threads.setdefault(endpoint, set())
            if len(threads) >= limit or self._closed.is_set():
                return
            thread = threading.Thread(target=self._run, args=(endpoint,), name=f"async/{endpoint}", daemon=True)
            threads.add(thread)
            thread.start()

    def _run(self, endpoint: str) -> None:
        while queued := self._next(endpoint):
            try:
                self._work(queued).run()
            except ShutDownError:
                continue
            except Exception:
                log.exception("asynchronous invocation '%s' of endpoint '%s'", queued.id, endpoint)
                self._closed.wait(_PAUSE_S)
                self._queue.unclaim(queued.id)

    def _work(self, queued: Queued) -> AsyncWork:
        return AsyncWork(
            self._platform,
            self._endpoints,
            self._data_capture,
            self._queue,
            self._client,
            self._folder,
            self._closed,
            queued,
        )

    def _next(self, endpoint: str) -> Queued | None:
        """The next invocation of an endpoint, for a thread that ends when there is none."""
        # Under the lock of `_wake`: whatever is put after this found nothing meets a thread less, and starts one.
        with self._lock:
            queued = None if self._closed.is_set() else self._queue.claim(endpoint)
            if queued is None:
                self._threads[endpoint].discard(threading.current_thread())
                if not self._threads[endpoint]:
                    del self._threads[endpoint]
        return queued


def _concurrency(store: Store, settings: Settings, endpoint: str) -> int:
    """How many invocations an endpoint works on at once: so many per instance, like on AWS, but no more than 32."""
    try:
        deployed = Deployed.find(store, settings, endpoint)
    except ApiError:  # gone: what waits for it fails, one after the other
        return 1
    client = (deployed.asynchronous or {}).get("ClientConfig", {})
    per_instance = int(client.get("MaxConcurrentInvocationsPerInstance", _DEFAULT_CONCURRENCY))
    return max(1, min(_MAX_THREADS, per_instance * deployed.instance_count))


def _check(invocation: Invocation) -> None:
    with_location, with_body = "InputLocation" in invocation.members, invocation.body.size > 0
    if with_location and with_body:
        raise ApiError("ValidationError", "Body and InputLocation are mutually exclusive. Provide exactly one of them.")
    if not with_location and not with_body:
        raise ApiError("ValidationError", "There is neither a Body nor an InputLocation. Provide exactly one of them.")
    if with_location:
        try:
            _, key = s3.split_uri(invocation.members["InputLocation"])
        except JobFailedError:
            key = ""
        if not key:
            location = invocation.members["InputLocation"]
            raise ApiError("ValidationError", f"InputLocation is '{location}'; it must look like s3://bucket/key.")


def _request(output: dict[str, Any], invocation: Invocation, identity: str) -> AsyncRequest:
    members = invocation.members
    folder = [extension.strip("/")] if (extension := members.get("S3OutputPathExtension")) else []
    filename, topics = members.get("Filename"), output.get("NotificationConfig", {})
    output_path = output["S3OutputPath"]
    return AsyncRequest(
        headers=invocation.forwarded,
        input_uri=members.get("InputLocation"),
        output_uri=s3.join(output_path, *folder, filename or f"{identity}.out"),
        failure_uri=s3.join(output.get("S3FailurePath", output_path), *folder, f"{filename or identity}-error.out"),
        inference_id=members.get("InferenceId", identity),
        ttl_s=members.get("RequestTTLSeconds", DEFAULT_TTL_S),
        timeout_s=members.get("InvocationTimeoutSeconds", DEFAULT_TIMEOUT_S),
        success_topic=topics.get("SuccessTopic"),
        error_topic=topics.get("ErrorTopic"),
    )
