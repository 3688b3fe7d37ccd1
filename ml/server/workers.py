"""The threads that run a model's code, so that the event loop only moves bytes.

Threads and not processes: decoding and the model itself run without the interpreter's lock, the weights are in memory
once, and a batch can form across all of them.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Outcome(NamedTuple):
    """What a call returned, or what it raised: SystemExit and StopIteration too, which would break an event loop."""

    value: Any
    error: Any


class Workers:
    """`count` threads. One event loop owns it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.threads = ThreadPoolExecutor(count, thread_name_prefix="predict")
        self.running: dict[object, float] = {}  # call -> time.monotonic() when a thread took it up

    def start(self, function: Callable[..., Any], *arguments: object) -> asyncio.Future[Outcome]:
        """-> a future Outcome; cancelling it keeps a call that has not begun from beginning."""
        return asyncio.get_running_loop().run_in_executor(self.threads, self.call, function, arguments)

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
        call = object()
        self.running[call] = time.monotonic()
        try:
            return Outcome(function(*arguments), None)
        except BaseException as error:
            return Outcome(None, error)
        finally:
            del self.running[call]

    def longest_s(self) -> float:
        """Since when the oldest of the running calls runs; 0 when none does."""
        now = time.monotonic()
        return now - min(list(self.running.values()), default=now)
