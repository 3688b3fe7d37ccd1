"""Which worker gets the next request: the fleet that serves, or during a deployment a part of them the fresh fleet.

Concurrency contract: any thread may call any method; one lock guards which fleets there are, their shares, and how many
requests each slot has in flight.
"""

from __future__ import annotations

import dataclasses
import random
import threading
import time

from local_sagemaker.hosting.fleet import Fleet, Group
from local_sagemaker.hosting.worker import Worker
from local_sagemaker.wire.errors import ApiError

INVOCATION_TIMEOUT_S = 60.0
"""The longest a real-time answer may take."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """The right to send one request to a worker; it is not stopped before the lease is given back."""

    traffic: Traffic
    slot: Worker
    url: str
    taken: float
    """time.monotonic"""
    config: str | None
    """In the middle of a deployment, the endpoint configuration that the worker serves."""

    @property
    def variant(self) -> str:
        return self.slot.variant.name

    def release(self) -> None:
        self.traffic.release(self)

    def lost(self) -> None:
        """The worker broke the connection: nobody else is sent to it before it has answered a ping again."""
        self.slot.suspect()

    def timed_out(self) -> None:
        """No answer came. A wait shorter than the worker's right says nothing about it."""
        if time.monotonic() - self.taken >= INVOCATION_TIMEOUT_S - 1:
            self.slot.timed_out()

    def answered(self) -> None:
        """The worker has begun to answer, whatever it says."""
        self.slot.answered()


class Traffic:
    def __init__(self, serving: Fleet | None) -> None:
        self._lock = threading.Lock()
        self.serving = serving
        self.fresh: Fleet | None = None
        self.share = 0.0
        """The part of the requests that goes to the fresh fleet."""

    def acquire(self, variant: str | None, preferred: Worker | None = None) -> Lease | None:
        """A worker for one request, chosen by share and weight, or by name; None when none is ready.

        The `preferred` one is chosen where it serves.

        Raises LookupError when no such variant, or nothing at all, is in service, and a ThrottlingException when a
        serverless variant is busy.
        """
        with self._lock:
            groups = [(fleet, group) for fleet in self._in_turn() for group in _eligible(fleet, variant)]
            if not groups:
                raise LookupError(variant)
            for fleet in dict.fromkeys(fleet for fleet, _ in groups):
                if chosen := _choose([group for its, group in groups if its is fleet], preferred):
                    slot, port = chosen
                    slot.in_flight += 1
                    config = fleet.config if self.fresh else None
                    return Lease(self, slot, f"http://127.0.0.1:{port}", time.monotonic(), config)
        return None

    def release(self, lease: Lease) -> None:
        with self._lock:
            lease.slot.in_flight -= 1

    def shift(self, fresh: Fleet, share: float) -> None:
        """From this moment the part `share` of the requests goes to the fresh fleet."""
        with self._lock:
            self.fresh, self.share = fresh, share

    def promote(self, fresh: Fleet) -> Fleet | None:
        """From this moment `fresh` serves alone; returns the fleet that did."""
        with self._lock:
            before, self.serving = self.serving, fresh
            self.fresh, self.share = None, 0.0
        return before

    def withdraw(self) -> None:
        """From this moment the fleet that served before serves alone."""
        with self._lock:
            self.fresh, self.share = None, 0.0

    def resize(self, group: Group, num_workers: int) -> list[Worker]:
        """See Group.resize; requests in flight go on."""
        with self._lock:
            return group.resize(num_workers)

    def weigh(self, weights: dict[str, float]) -> None:
        """Give the variants that serve new weights."""
        with self._lock:
            for group in self.serving.groups if self.serving else []:
                group.weight = weights.get(group.variant.name, group.weight)

    def close(self) -> list[Fleet]:
        """Nothing is served any more; returns what did."""
        with self._lock:
            fleets = [fleet for fleet in (self.serving, self.fresh) if fleet]
            self.serving = self.fresh = None
        return fleets

    def _in_turn(self) -> list[Fleet]:
        """The fleet whose turn it is; the other one behind it, in case that it has no worker that answers."""
        if self.fresh is None or not self.share:
            return [self.serving] if self.serving else []
        fleets = [self.fresh, *([self.serving] if self.serving else [])]
        return fleets if random.random() < self.share else fleets[::-1]


def _eligible(fleet: Fleet, variant: str | None) -> list[Group]:
    if variant is not None:
        return [group for group in fleet.groups if group.variant.name == variant]
    return [group for group in fleet.groups if group.weight > 0] or fleet.groups


def _choose(groups: list[Group], preferred: Worker | None) -> tuple[Worker, int] | None:
    """A worker and its port: the preferred one, or by the groups' weights, within a group one of the least busy.

    Groups without a worker that answers are passed over.
    """
    if preferred and (port := preferred.port) is not None and any(preferred in group.slots for group in groups):
        return preferred, port
    ready = [(group, slots) for group in groups if (slots := _answering(group))]
    if not ready:
        return None
    ((group, slots),) = random.choices(ready, [group.weight or 1.0 for group, _ in ready])
    if not group.free():
        raise ApiError("ThrottlingException", f"Rate exceeded for variant {group.variant.name}: MaxConcurrency.", 429)
    least = min(slot.in_flight for slot, _ in slots)
    return random.choice([(slot, port) for slot, port in slots if slot.in_flight == least])


def _answering(group: Group) -> list[tuple[Worker, int]]:
    """Any thread may set a slot's port to None at any time: it is read once."""
    return [(slot, port) for slot in group.slots if (port := slot.port) is not None]
