"""Requests that wait for the model together, computed together.

A thread that finds the model free computes at once, alone: nobody waits for company. Who comes while the model is busy
waits, and the next to compute takes the others along, in the order they came. So batches form only when a queue does.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

MAX_REQUESTS = 16  # of one batch
MAX_BYTES = 64 * 2**20  # of the bodies of one batch, unless one alone is larger


class Waiting:
    """A request until it has its prediction or its error."""

    def __init__(self, request: Any, size_bytes: int) -> None:
        self.request, self.size_bytes = request, size_bytes
        self.prediction: Any = None
        self.error: BaseException | None = None
        self.answered = False
        self.woken = threading.Event()


class MicroBatch:
    """`predict_one(request)` and `predict_many(requests)`, of which at most one runs at any time.

    `predict_many` returns a list with a prediction or an exception for each request. Any thread may call `predict`.
    """

    def __init__(
        self,
        predict_one: Callable[[Any], Any],
        predict_many: Callable[[Sequence[Any]], Any],
        max_requests: int = MAX_REQUESTS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.predict_one, self.predict_many = predict_one, predict_many
        self.max_requests, self.max_bytes = max_requests, max_bytes
        self.lock, self.busy = threading.Lock(), False
        self.queue: list[Waiting] = []

    def predict(self, request: Any, size_bytes: int = 0) -> Any:
        """The prediction for `request`, or the error that belongs to it."""
        waiting = Waiting(request, size_bytes)
        with self.lock:
            self.queue.append(waiting)
            leads, self.busy = not self.busy, True
        if not leads:
            waiting.woken.wait()
        if not waiting.answered:
            self.lead()
        if waiting.error is not None:
            raise waiting.error
        return waiting.prediction

    def lead(self) -> None:
        """Compute the head of the queue, to which the caller's own request belongs, and name the next to do so."""
        batch = self.take()
        try:
            self.compute(batch)
        finally:
            for waiting in batch:
                waiting.answered = True
            with self.lock:
                following = self.queue[:1]
                self.busy = bool(following)
            for waiting in (*following, *batch):
                waiting.woken.set()

    def take(self) -> list[Waiting]:
        with self.lock:
            count, size_bytes = 1, self.queue[0].size_bytes
            for waiting in self.queue[1 : self.max_requests]:
                size_bytes += waiting.size_bytes
                if size_bytes > self.max_bytes:
                    break
                count += 1
            batch, self.queue = self.queue[:count], self.queue[count:]
        return batch

    def compute(self, batch: Sequence[Waiting]) -> None:
        outcomes = self.together(batch) if len(batch) > 1 else None
        for position, waiting in enumerate(batch):
            try:
                outcome = self.predict_one(waiting.request) if outcomes is None else outcomes[position]
            except BaseException as error:  # whatever it is, it must reach the thread whose request caused it
                outcome = error
            if isinstance(outcome, BaseException):
                waiting.error = outcome
            else:
                waiting.prediction = outcome

    def together(self, batch: Sequence[Waiting]) -> list[Any] | None:
        """The outcomes of a batch; None when it failed as a whole, so that each request gets an error of its own."""
        try:
            outcomes = self.predict_many([waiting.request for waiting in batch])
        except BaseException:
            return None
        if not isinstance(outcomes, list) or len(outcomes) != len(batch):
            said = f"{len(outcomes)} results" if isinstance(outcomes, list) else type(outcomes).__name__
            message = f"predict_batch_fn must return a list of {len(batch)} results, not {said}"
            return [TypeError(message) for _ in batch]
        return outcomes
