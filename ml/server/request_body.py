"""A request's body, read within limits of size and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

PAUSE_S = 10  # the longest wait for the next part of a body
TOTAL_S = 60  # SageMaker has given up on the answer by then


class Refused(Exception):
    """The request is not taken. Arguments: status, code, detail."""


class CallerGone(Exception):
    """Nobody is there any more to read an answer."""


class Deadline:
    """Cancels the running task when the next part of a body takes too long, or all of them together do."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # whoever reads a body is one
        self.loop, self.task, self.passed = asyncio.get_running_loop(), task, False
        self.began = self.part_came = self.loop.time()
        self.timer = self.loop.call_later(PAUSE_S, self.check)

    def check(self) -> None:
        end = min(self.part_came + PAUSE_S, self.began + TOTAL_S)
        if self.loop.time() >= end:
            self.passed = True
            self.task.cancel()
        else:
            self.timer = self.loop.call_at(end, self.check)


async def read(request: Request, max_bytes: int, reserve: Callable[[int], None]) -> bytes:
    """The body of a Starlette request. `reserve(n)` is told of each n bytes before they are kept; it may refuse.

    Raises Refused (408, 413) or CallerGone.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > max_bytes:
        raise too_large(max_bytes)
    deadline, parts, size_bytes = Deadline(), [], 0
    try:
        while True:
            message = await request.receive()
            if message["type"] != "http.request":
                raise CallerGone
            deadline.part_came = deadline.loop.time()
            part = message.get("body", b"")
            size_bytes += len(part)
            if size_bytes > max_bytes:
                raise too_large(max_bytes)
            reserve(len(part))
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)
    except asyncio.CancelledError:
        if not deadline.passed:
            raise
        if hasattr(deadline.task, "uncancel"):  # Python 3.11
            deadline.task.uncancel()
        raise Refused(408, "SLOW_BODY", f"a body must not pause for {PAUSE_S} s, nor take {TOTAL_S} s in all") from None
    finally:
        deadline.timer.cancel()


def too_large(max_bytes: int) -> Refused:
    return Refused(413, "TOO_LARGE", f"the body is larger than {max_bytes / 2**20:g} MB")
