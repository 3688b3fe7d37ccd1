"""The threads that carry jobs, and how one is asked to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from local_sagemaker.state.store import Record, Store

log = logging.getLogger("local_sagemaker")

# Each wakes a few times a second to look whether its turn has come.
_MAX_WAITING_THREADS = 64


def stop_job(store: Store, background: Background, kind: str, name: str) -> None:
    """Ask for a stop; a job that has ended, or is stopping, stays as it is."""

    def change(record: Record) -> None:
        if record.status == "InProgress":
            record.status = "Stopping"

    store.update(kind, name, change)
    background.stop(kind, name)


class Background:
    """Threads, each of which is known by its kind and name, so that an API call can tell it to stop.

    Of jobs that wait for a place only some have a thread, in which they tell that they are Pending and look at their
    time limits; the others begin in their turn, or at once to be stopped. What waits for others' jobs (`waits_for_none`
    False) has a thread always: it would else keep them from ending.
    """

    def __init__(self, max_concurrent_jobs: int) -> None:
        self._max_threads = max_concurrent_jobs + _MAX_WAITING_THREADS
        self._counted = 0
        """Threads of jobs that count against `_max_threads`."""
        self._queue: dict[tuple[str, str], threading.Thread] = {}
        self.slots = threading.BoundedSemaphore(max_concurrent_jobs)
        self.shutdown = threading.Event()
        """Set once, when the server stops: running jobs end their processes and return."""
        self._lock = threading.Lock()
        self._threads: dict[tuple[str, str], tuple[threading.Thread, threading.Event]] = {}

    def start(
        self, kind: str, name: str, run: Callable[[threading.Event], None], *, waits_for_none: bool = True
    ) -> None:
        """Run `run(stop_event)` in a thread until it returns."""
        stop = threading.Event()
        arguments = (kind, name, run, stop, waits_for_none)
        thread = threading.Thread(target=self._carry, args=arguments, name=f"{kind}/{name}", daemon=True)
        with self._lock:
            self._threads[kind, name] = (thread, stop)
            if waits_for_none and self._counted >= self._max_threads:
                self._queue[kind, name] = thread
                return
            self._counted += waits_for_none
        thread.start()

    def stop(self, kind: str, name: str) -> None:
        """Ask a job's thread to stop it; does nothing when it has ended."""
        with self._lock:
            entry = self._threads.get((kind, name))
            queued = self._queue.pop((kind, name), None)
            self._counted += queued is not None
        if entry:
            entry[1].set()
        if queued:
            queued.start()

    def carries(self, kind: str, name: str) -> bool:
        """Whether a job's thread still runs."""
        with self._lock:
            return (kind, name) in self._threads

    def close(self, timeout_s: float) -> None:
        """Ask all threads to end and wait for them, together at most `timeout_s` seconds."""
        self.shutdown.set()
        deadline = time.monotonic() + timeout_s
        with self._lock:
            for queued in self._queue:  # nothing of them has begun: the next server does
                del self._threads[queued]
            self._queue.clear()
            entries = list(self._threads.values())
        for _, stop in entries:
            stop.set()
        for thread, _ in entries:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _carry(
        self, kind: str, name: str, run: Callable[[threading.Event], None], stop: threading.Event, counted: bool
    ) -> None:
        try:
            run(stop)
        except Exception:
            log.exception("%s '%s' ended in an error of the server", kind, name)
        finally:
            following: threading.Thread | None = None
            with self._lock:
                self._threads.pop((kind, name), None)
                self._counted -= counted
                if counted and self._queue and self._counted < self._max_threads:
                    following = self._queue.pop(next(iter(self._queue)))
                    self._counted += 1
            if following:
                following.start()
