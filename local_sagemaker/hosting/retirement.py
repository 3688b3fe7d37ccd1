"""Workers that get no requests any more: ended once they have answered those they have."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable

from local_sagemaker.background import log
from local_sagemaker.hosting.worker import ABANDON_GRACE_S, Worker

#: Longer than any answer may take: an asynchronous invocation has an hour. Its client gives up before.
LONGEST_ANSWER_S = 3660.0

_POLL_S = 0.1


class Retirement:
    """For the endpoint's thread; each worker is waited for in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._threads: list[threading.Thread] = []
        self._hurry = threading.Event()
        self._end = math.inf
        """When all must be ended (time.monotonic), whatever they were given."""

    def begin(self, slots: Iterable[Worker], limit_s: float = LONGEST_ANSWER_S) -> None:
        """End these workers when they are idle, at the latest after `limit_s` seconds."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        for slot in slots:
            thread = threading.Thread(
                target=self._retire, args=(slot, limit_s), name=f"{self._name}/retire", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def going_on(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        """Until all are ended."""
        for thread in self._threads:
            thread.join()

    def end_within(self, limit_s: float) -> None:
        """All of them, also those that had been given longer."""
        self._end = time.monotonic() + limit_s

    def hurry(self) -> None:
        """The server ends: whatever they do."""
        self._hurry.set()

    def _retire(self, slot: Worker, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while slot.in_flight and not self._hurry.is_set():
            if time.monotonic() > min(deadline, self._end):
                log.warning("%s: a worker is ended with %d requests in flight", self._name, slot.in_flight)
                break
            time.sleep(_POLL_S)
        slot.stop(ABANDON_GRACE_S if self._hurry.is_set() else None)
