"""The requests of a batch transform job to its model server: how many at once, how long, how often again."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from local_sagemaker.failures import JobFailedError

DEFAULT_PAYLOAD_MB = 6
"""SageMaker's own default of MaxPayloadInMB."""

MAX_MB_IN_FLIGHT = 100
"""SageMaker's own bound of MaxPayloadInMB, and of MaxConcurrentTransforms times MaxPayloadInMB."""

MAX_CONCURRENT = 100
"""MaxConcurrentTransforms, each of which is a thread here: where bodies have a limit their product says the same."""

MAX_ANSWER_BYTES = 2**29
"""Of all answers that can come in at once; they are in memory. One may have its share, or as much as a body."""

_MAX_PARAMETERS_BYTES = 64 * 2**10
_MAX_REASON_BYTES = 4096
_DEFAULT_TIMEOUT_S = 600
_DEFAULT_RETRIES = 3
_RETRY_PAUSE_S = 0.2
_STRATEGIES = {"MULTI_RECORD": "MultiRecord", "SINGLE_RECORD": "SingleRecord"}

Content = bytes | Callable[[], Iterator[bytes]]
"""A request body, or what opens the stream of one that is sent in chunks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters:
    """How a job sends its records: as its request says, else as the model server says, else SageMaker's defaults."""

    max_concurrent: int
    max_payload_mb: int
    """0 means that bodies have no limit and are sent in chunks."""
    several_records: bool

    @classmethod
    def of(cls, request: dict[str, Any], offered: dict[str, Any]) -> Parameters:
        """`offered` is the answer to GET /execution-parameters. Raises JobFailedError for a bad one."""
        strategy = request.get("BatchStrategy") or _STRATEGIES.get(str(offered.get("BatchStrategy", "MULTI_RECORD")))
        concurrent_, payload = (
            request.get("MaxConcurrentTransforms") or offered.get("MaxConcurrentTransforms", 1),
            request.get("MaxPayloadInMB", offered.get("MaxPayloadInMB", DEFAULT_PAYLOAD_MB)),
        )
        good = isinstance(concurrent_, int) and isinstance(payload, int) and concurrent_ >= 1 and payload >= 0
        good = good and concurrent_ <= MAX_CONCURRENT
        if strategy is None or not good or concurrent_ * payload > MAX_MB_IN_FLIGHT:
            raise JobFailedError(
                f"AlgorithmError: execution parameters {json.dumps(offered):.200} of the model server: "
                f"MaxConcurrentTransforms (1 to {MAX_CONCURRENT}) * MaxPayloadInMB must be at most {MAX_MB_IN_FLIGHT}, "
                f"BatchStrategy one of {', '.join(_STRATEGIES)}"
            )
        return cls(max_concurrent=concurrent_, max_payload_mb=payload, several_records=strategy == "MultiRecord")

    @property
    def max_bytes(self) -> int:
        return self.max_payload_mb * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """A request that got no good answer."""

    reason: str
    by_server: bool
    """The model server failed (5xx, no answer in time), rather than refused (4xx) or was never asked."""


class ModelClient:
    """Any thread may ask; `stop` being set ends what waits."""

    def __init__(self, url: str, request: dict[str, Any], stop: threading.Event) -> None:
        client: dict[str, int] = request.get("ModelClientConfig", {})
        self._url = url
        self._stop = stop
        self._timeout_s = client.get("InvocationsTimeoutInSeconds", _DEFAULT_TIMEOUT_S)
        self._attempts = 1 + client.get("InvocationsMaxRetries", _DEFAULT_RETRIES)
        headers = {
            "Content-Type": request["TransformInput"].get("ContentType"),
            "Accept": request["TransformOutput"].get("Accept"),
        }
        self._headers = {name: value for name, value in headers.items() if value}
        self._http = httpx.Client(
            timeout=httpx.Timeout(self._timeout_s), limits=httpx.Limits(keepalive_expiry=2.0), trust_env=False
        )
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._max_answer_bytes = 0

    def offered(self) -> dict[str, Any]:
        """What the model server answers to GET /execution-parameters; nothing when it does not know that path."""
        try:
            with self._http.stream("GET", f"{self._url}/execution-parameters") as answer:
                if answer.status_code != 200:
                    return {}
                text = _read(answer, _MAX_PARAMETERS_BYTES)[0]
        except (httpx.TransportError, httpx.DecodingError):
            return {}
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            shown = text[:200].decode(errors="replace")
            raise JobFailedError(f"AlgorithmError: the model server's execution parameters are no JSON object: {shown}")
        return content

    def open(self, max_concurrent: int, max_payload_bytes: int) -> None:
        """Allow that many requests at once; before, nothing may be asked."""
        self._max_answer_bytes = max(max_payload_bytes, MAX_ANSWER_BYTES // max_concurrent)
        self._pool = concurrent.futures.ThreadPoolExecutor(max_concurrent, thread_name_prefix="invocations")

    def ask(self, content: Content) -> concurrent.futures.Future[httpx.Response | Refused]:
        """Send one body when it is its turn. The answer is a 2xx response, or why there is none."""
        assert self._pool is not None, "open() comes first"
        return self._pool.submit(self._ask, content)

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._http.close()

    def _ask(self, content: Content) -> httpx.Response | Refused:
        """Failures are tried again, refusals are not."""
        refused = Refused("the job was stopped", by_server=False)
        for attempt in range(self._attempts):
            self._stop.wait(_RETRY_PAUSE_S if attempt else 0)
            if self._stop.is_set():
                break
            answer = self._post(content)
            if isinstance(answer, httpx.Response):
                return answer
            refused = answer
            if not refused.by_server:
                break
        return refused

    def _post(self, content: Content) -> httpx.Response | Refused:
        body = content if isinstance(content, bytes) else content()
        try:
            with self._http.stream("POST", f"{self._url}/invocations", content=body, headers=self._headers) as answer:
                good = answer.status_code < 300
                found, whole = _read(answer, self._max_answer_bytes if good else _MAX_REASON_BYTES)
        except httpx.TimeoutException:
            return Refused(f"no answer within {self._timeout_s} s", by_server=True)
        except httpx.TransportError as error:
            return Refused(f"no answer: {error}", by_server=True)
        except httpx.DecodingError as error:
            return Refused(f"an answer that is not encoded as it says: {error}", by_server=True)
        if not good:
            said = found.decode(errors="replace")[:500]
            return Refused(f"{answer.status_code}: {said}", by_server=answer.status_code >= 500)
        if not whole:
            return Refused(f"an answer of more than {self._max_answer_bytes} bytes", by_server=False)
        content_type = answer.headers.get("content-type", "application/octet-stream")
        return httpx.Response(answer.status_code, headers={"content-type": content_type}, content=found)


def _read(answer: httpx.Response, max_bytes: int) -> tuple[bytes, bool]:
    """The first bytes of an answer that is coming in, and whether that is all of it."""
    parts: list[bytes] = []
    size = 0
    for part in answer.iter_bytes():
        size += len(part)
        if size > max_bytes:
            return b"".join(parts), False
        parts.append(part)
    return b"".join(parts), True
