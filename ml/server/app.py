"""The HTTP side of one loaded model: GET /ping and POST /invocations.

/ping answers 200 after the warm-up (serve.py opens the port only then) and as long as the model answers. It turns 503

- while a call of the model's code runs longer than SAGEMAKER_MODEL_SERVER_TIMEOUT seconds, and
- after a prediction ended with a status of 500 or more, if the warm-up, run once more, fails or does not end either.
  A model without model_warmup_fn gives no means to ask again; its failures are not held against it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import traceback
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server import request_body
from server.request_body import CallerGone, Refused
from server.workers import Workers

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping
    from typing import Any

    from server.handlers import Answer, Handlers
    from server.workers import Outcome

WAITING_PER_WORKER = 64  # requests beyond that are told to come back
HELD_BODIES = 8  # so many of the largest allowed size may be in memory at a time
PING_S = 1  # SageMaker waits two seconds for an answer to /ping
A_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
OURS = {"content-length", "transfer-encoding", "connection", "content-type", "keep-alive", "upgrade", "trailer", "te"}
CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
NOT_A_HEADER = re.compile(r"[\x00-\x1f\x7f]|[^\x00-\xff]")


def build_app(handlers: Handlers, settings: argparse.Namespace) -> Starlette:
    server = ModelServer(handlers, settings)
    app = Starlette(
        routes=[Route("/ping", server.ping), Route("/invocations", server.invoke, methods=["POST"])],
        exception_handlers={404: no_such_route, 405: no_such_route},
    )
    app.state.server = server
    return app


class ModelServer:
    """Predictions run on threads, the rest on one event loop, which owns everything here."""

    def __init__(self, handlers: Handlers, settings: argparse.Namespace) -> None:
        self.handlers, self.timeout_s = handlers, settings.timeout_s
        self.workers = Workers(settings.workers)
        self.max_bytes, self.held_bytes = settings.max_payload_bytes, 0
        self.max_answer_bytes = settings.max_answer_bytes
        self.headers = {CUSTOM_ATTRIBUTES: settings.custom_attributes} if settings.custom_attributes else {}
        # SageMaker hands the headers of a success to the caller, and of an error the body alone.
        self.signature = {"answered_by": settings.custom_attributes} if settings.custom_attributes else {}
        self.waiting, self.max_waiting = 0, settings.workers * WAITING_PER_WORKER
        self.failed = False
        self.probe: asyncio.Future[Outcome] | None = None

    async def ping(self, request: Request) -> Response:
        healthy = self.workers.longest_s() <= self.timeout_s and not (self.failed and not await self.recovered())
        return Response(status_code=200 if healthy else 503)

    async def recovered(self) -> bool:
        """Whether the warm-up succeeds after a failed prediction."""
        if not self.handlers.can_warm_up:
            return True
        if self.probe is None or self.probe.done():
            self.probe = self.workers.start(self.handlers.warm_up)
        await asyncio.wait({self.probe}, timeout=PING_S)
        if self.probe.done() and self.probe.result().error is None:
            self.failed = False
        return not self.failed

    async def invoke(self, request: Request) -> Response:
        if self.waiting >= self.max_waiting:
            return self.refusal(429, "BUSY", f"{self.waiting} requests are waiting; try again", {"retry-after": "1"})
        self.waiting += 1
        body_bytes = 0

        def reserve(size_bytes: int) -> None:
            nonlocal body_bytes
            if self.held_bytes + size_bytes > HELD_BODIES * self.max_bytes:
                raise Refused(429, "BUSY", f"the waiting requests hold {self.held_bytes >> 20} MB; try again")
            body_bytes += size_bytes
            self.held_bytes += size_bytes

        try:
            return await self.answer(request, reserve)
        except Refused as refused:
            # The rest of the body, if there is any, is not read: the connection cannot be used again.
            status, code, detail = refused.args
            return self.refusal(status, code, detail, {"connection": "close"})
        except CallerGone:
            return Response(status_code=400)
        finally:
            self.waiting -= 1
            self.held_bytes -= body_bytes

    def refusal(self, status: int, code: object, detail: object, headers: Mapping[str, str] | None = None) -> Response:
        return refusal(status, code, detail, headers, **self.signature)

    async def answer(self, request: Request, reserve: Callable[[int], None]) -> Response:
        body = await request_body.read(request, self.max_bytes, reserve)
        headers = request.headers
        work = self.workers.start(
            self.handlers.respond, body, headers.get("content-type"), headers.get("accept"), dict(headers)
        )
        outcome = await self.outcome(work, request)
        problem = outcome.error or not_to_be_sent(outcome.value, self.max_answer_bytes)
        response = failure(problem, self.refusal) if problem else success(outcome.value, self.headers)
        self.failed = response.status_code >= 500
        return response

    async def outcome(self, work: asyncio.Future[Outcome], request: Request) -> Outcome:
        """What came of `work`. Raises CallerGone when the caller left while it queued, Refused when it takes long."""
        watched: set[asyncio.Future[Any]] = {work}
        if self.waiting > self.workers.count:
            watched.add(asyncio.ensure_future(request.receive()))  # after the body, that is the end of the connection
        try:
            await asyncio.wait(watched, timeout=self.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if any(future.done() for future in watched):
                raise CallerGone
            raise Refused(503, "TIMEOUT", f"the model has not answered within {self.timeout_s} s")
        finally:
            for future in watched:
                future.cancel()


def success(answer: Answer, headers: Mapping[str, str]) -> Response:
    """What the user's code says itself goes before `headers`."""
    own = {name.lower(): str(value) for name, value in answer.headers.items() if name.lower() not in OURS}
    return Response(answer.content, answer.status, headers={**headers, **own, "content-type": answer.content_type})


def not_to_be_sent(answer: Answer, max_bytes: int | None) -> ValueError | None:
    """What keeps an answer of the user's code from being one of HTTP; None if nothing does."""
    if NOT_A_HEADER.search(answer.content_type):
        return ValueError(f"{answer.content_type!r} is no content type")
    for name, value in answer.headers.items():
        if not A_NAME.fullmatch(name) or NOT_A_HEADER.search(str(value)):
            return ValueError(f"{name!r}: {str(value)[:80]!r} is no header")
    if max_bytes and len(answer.content) > max_bytes:
        return ValueError(f"the answer has {len(answer.content)} bytes; at most {max_bytes} are allowed here")
    return None


def failure(error: BaseException, refusal: Callable[[int, object, object], Response]) -> Response:
    """An exception of the user's code as a response: its own status, else 500 and a trace in the log."""
    status = getattr(error, "status_code", None)
    if isinstance(error, UnicodeDecodeError):
        status = 400
    if not (isinstance(status, int) and 400 <= status <= 599):
        traceback.print_exception(type(error), error, error.__traceback__)
        sys.stderr.flush()
        return refusal(500, "INFERENCE_FAILED", f"{type(error).__name__}: {error}")
    return refusal(status, getattr(error, "code", type(error).__name__), getattr(error, "detail", str(error)))


def refusal(
    status: int, code: object, detail: object, headers: Mapping[str, str] | None = None, **more: str
) -> Response:
    text = json.dumps({"error": str(code)[:80], "detail": str(detail)[:800], **more})
    return Response(text, status, headers=headers, media_type="application/json")


def no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # as the app has it called for 404 and 405 alone
    detail = "this server has GET /ping and POST /invocations"
    return refusal(error.status_code, "NOT_FOUND" if error.status_code == 404 else "METHOD", detail, error.headers)
