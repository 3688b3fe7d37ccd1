"""A limit on the memory that several threads take at once for large things: who finds no room waits for their turn."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_S = 20  # less than a caller of an endpoint waits for an answer


class Full(Exception):
    """There was no room in time."""


class MemoryGate:
    """`capacity_bytes` for all threads together; what is larger than that has it alone.

    In the order of coming, so that many small things cannot keep out a large one.
    """

    def __init__(self, capacity_bytes: int, wait_s: float | None = WAIT_S) -> None:
        self.capacity_bytes, self.wait_s, self.taken_bytes = capacity_bytes, wait_s, 0
        self.changed, self.queue = threading.Condition(), deque[object]()

    @contextlib.contextmanager
    def room(self, size_bytes: int) -> Iterator[None]:
        """Hold so much while the context lasts. Raises Full after `wait_s` seconds; None waits for ever."""
        size_bytes = min(size_bytes, self.capacity_bytes)
        self.enter(size_bytes)
        try:
            yield
        finally:
            with self.changed:
                self.taken_bytes -= size_bytes
                self.changed.notify_all()

    def enter(self, size_bytes: int) -> None:
        turn, until = object(), None if self.wait_s is None else time.monotonic() + self.wait_s
        with self.changed:
            self.queue.append(turn)
            try:
                while self.queue[0] is not turn or self.taken_bytes + size_bytes > self.capacity_bytes:
                    left = None if until is None else until - time.monotonic()
                    if left is not None and left <= 0:
                        raise Full
                    self.changed.wait(left)
                self.taken_bytes += size_bytes
            finally:
                self.queue.remove(turn)
                self.changed.notify_all()
