"""One request at a model server: sent to a worker of an endpoint's variant, answered piece by piece.

Each request has a connection of its own. So it is always known whether a request that got no answer can have been
worked on: a worker that died in between refuses the connection, or the kernel resets it because something in it was
never read. Only such requests go to another worker. (An idle connection kept for reuse may be closed by the other end
at the very moment of the next request, and nobody can tell whether that was read; a fresh one costs 0.3 ms.)
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator

import httpx

from local_sagemaker.hosting.endpoint import Endpoints
from local_sagemaker.hosting.payload import MEMORY_BYTES, Payload
from local_sagemaker.hosting.traffic import Lease
from local_sagemaker.hosting.worker import Worker
from local_sagemaker.settings import Settings
from local_sagemaker.state import logs
from local_sagemaker.wire.errors import ApiError

CRASHED = "An error occurred while handling request as the model process exited."
TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. "
    "Review the latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)

_READY_TIMEOUT_S = 30.0
"""How long a request waits for a worker that is being restarted, before it is told to try again."""

_POLL_S = 0.05
_ORIGINAL_MESSAGE_LIMIT = 4096
_UTF8_BYTES = 4

# Once more after a reset: if the request itself is what ends workers, it must not end them one after the other.
_MAX_RESETS = 1


class ModelError(Exception):
    """The model server refused (`status` 4xx), failed (5xx) or did not answer (0)."""

    def __init__(self, status: int, original: str) -> None:
        super().__init__(original)
        self.status = status
        self.original = original[:_ORIGINAL_MESSAGE_LIMIT]
        self.lease: Lease | None = None
        """Whom `send` had chosen to be asked."""

    def message(self, settings: Settings, endpoint: str) -> str:
        """As SageMaker words it."""
        kind = "client" if 400 <= self.status < 500 else "server"
        console = f"https://{settings.region}.console.aws.amazon.com/cloudwatch/home?region={settings.region}"
        return (
            f'Received {kind} error ({self.status}) from primary with message "{self.original}". '
            f"See {console}#logEventViewer:group={logs.ENDPOINTS}/{endpoint} in account {settings.account} "
            "for more information."
        )


class InvocationTimeoutError(ModelError):
    """The model server was not done in time."""

    def __init__(self) -> None:
        super().__init__(0, TIMED_OUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request that has been sent, and an answer of status 2xx whose headers have arrived."""

    lease: Lease
    response: httpx.Response
    deadline: float
    """When the whole answer must have arrived (time.monotonic)."""
    sent: float
    """When it was sent (time.monotonic)."""

    @property
    def headers(self) -> httpx.Headers:
        return self.response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The answer's bytes as they arrive. Raises ModelError."""
        parts = self.response.aiter_raw()
        while True:
            try:
                async with asyncio.timeout(max(0.0, self.deadline - time.monotonic())):
                    part = await anext(parts, b"")
            except TimeoutError:
                raise InvocationTimeoutError from None
            except httpx.TransportError:
                self.lease.lost()
                raise ModelError(0, CRASHED) from None
            if not part:
                return
            yield part

    async def close(self) -> None:
        """Give everything back; also in the middle of an answer."""
        try:
            await self.response.aclose()
        finally:
            self.lease.release()


async def send(
    endpoints: Endpoints,
    client: httpx.AsyncClient,
    endpoint: str,
    body: Payload,
    headers: dict[str, str],
    *,
    variant: str | None,
    preferred: Worker | None,
    timeout_s: float,
) -> Exchange:
    """Have a worker (the preferred one, where it serves) begin to answer within `timeout_s` seconds.

    The caller closes the exchange.

    Raises ModelError for an answer that is none, and an ApiError when there is no such endpoint or no worker is ready.
    """
    give_up = time.monotonic() + _READY_TIMEOUT_S
    resets = 0
    while True:
        lease = await _lease(endpoints, endpoint, variant, preferred, give_up)
        sent = time.monotonic()
        with contextlib.ExitStack() as unless_sent:
            unless_sent.callback(lease.release)
            try:
                response = await _begin(client, lease, body, headers, timeout_s)
            except httpx.ConnectError:
                lease.lost()  # nothing was sent: the worker has just died
                continue
            except (httpx.ReadError, httpx.WriteError) as error:
                lease.lost()  # reset: part of the request was never read
                resets += 1
                if resets > _MAX_RESETS:
                    raise _crashed(lease) from error
                continue
            except httpx.TransportError as error:
                lease.lost()
                raise _crashed(lease) from error
            except ModelError as error:
                error.lease = lease
                raise
            unless_sent.pop_all()
        return Exchange(lease=lease, response=response, deadline=sent + timeout_s, sent=sent)


async def _begin(
    client: httpx.AsyncClient, lease: Lease, body: Payload, headers: dict[str, str], timeout_s: float
) -> httpx.Response:
    """An answer of status 2xx, of which the headers have arrived. Raises httpx's errors, or a ModelError."""
    try:
        async with asyncio.timeout(timeout_s):
            response = await _post(client, lease, body, headers)
            lease.answered()
            if response.status_code >= 300:
                await _refuse(response)
            return response
    except TimeoutError:
        lease.timed_out()
        raise InvocationTimeoutError from None


def _crashed(lease: Lease) -> ModelError:
    error = ModelError(0, CRASHED)
    error.lease = lease
    return error


async def _post(client: httpx.AsyncClient, lease: Lease, body: Payload, headers: dict[str, str]) -> httpx.Response:
    # The answer is passed on as it comes, so it must not be compressed for us.
    own = {"accept": "*/*", "accept-encoding": "identity", "content-length": str(body.size), "connection": "close"}
    content = body.read() if body.size <= MEMORY_BYTES else body.stream()
    request = client.build_request("POST", f"{lease.url}/invocations", headers=own | headers, content=content)
    return await client.send(request, stream=True)


async def _refuse(response: httpx.Response) -> None:
    """Raise what the model server said in place of an answer."""
    text = b""
    try:
        with contextlib.suppress(httpx.TransportError):  # what has arrived will do
            async for chunk in response.aiter_raw():
                text += chunk
                if len(text) > _ORIGINAL_MESSAGE_LIMIT * _UTF8_BYTES:
                    break
    finally:
        await response.aclose()
    raise ModelError(response.status_code, text.decode(errors="replace"))


async def _lease(
    endpoints: Endpoints, endpoint: str, variant: str | None, preferred: Worker | None, give_up: float
) -> Lease:
    """A worker for this request. Raises a ServiceUnavailable when none is ready by then."""
    while time.monotonic() < give_up:
        lease = endpoints.acquire(endpoint, variant, preferred)
        if lease:
            return lease
        await asyncio.sleep(_POLL_S)
    raise ApiError(
        "ServiceUnavailable",
        f"The model server of endpoint {endpoint} is being restarted; try again. "
        f"Its log is in {logs.ENDPOINTS}/{endpoint}.",
        503,
    )
