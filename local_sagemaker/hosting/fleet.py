"""A fleet: all workers that serve one endpoint configuration, a group of slots per production variant.

Concurrency contract: the endpoint's thread changes a fleet. Other threads read it under the traffic's lock; what they
read (`groups`, `slots`, `weight`) is replaced as a whole, never changed in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from local_sagemaker.hosting.variant import Variant
from local_sagemaker.hosting.worker import Worker, num_threads
from local_sagemaker.platform import Platform


class Group:
    """A variant's workers."""

    def __init__(self, platform: Platform, endpoint: str, variant: Variant, wake: Callable[[], None]) -> None:
        self._platform = platform
        self._endpoint = endpoint
        self._wake = wake
        self.variant = variant
        self.weight = variant.weight
        self.slots: list[Worker] = []

    def resize(self, num_workers: int) -> list[Worker]:
        """Have so many slots; returns those taken out, the youngest first, for the caller to drain and stop."""
        missing = num_workers - len(self.slots)
        if missing > 0:
            threads = num_threads(self._platform.settings, self._platform.cores, self.variant)
            fresh = [Worker(self._platform, self._endpoint, self.variant, threads, self._wake) for _ in range(missing)]
            self.slots = [*self.slots, *fresh]
            return []
        removed = self.slots[num_workers:]
        self.slots = self.slots[:num_workers]
        return removed[::-1]

    def free(self) -> bool:
        """Whether a serverless variant may take one more request."""
        limit = (self.variant.serverless or {}).get("MaxConcurrency")
        return limit is None or sum(slot.in_flight for slot in self.slots) < limit


class Fleet:
    def __init__(
        self, platform: Platform, endpoint: str, config: str, variants: list[Variant], wake: Callable[[], None]
    ) -> None:
        """Nothing is started before `scale` and `tend`. `config` names the endpoint configuration."""
        self.config = config
        self._platform = platform
        self.groups = [Group(platform, endpoint, variant, wake) for variant in variants]

    @property
    def slots(self) -> Iterator[Worker]:
        return (slot for group in self.groups for slot in group.slots)

    def scale(self, part: float) -> None:
        """Have at least this part of each variant's workers."""
        for group in self.groups:
            group.resize(
                max(
                    len(group.slots),
                    math.ceil(part * group.variant.num_workers(self._platform.settings, self._platform.cores) - 1e-9),
                )
            )

    def tend(self) -> None:
        for slot in self.slots:
            slot.tend()

    def ready(self) -> bool:
        return all(slot.port is not None for slot in self.slots)

    def failure(self) -> tuple[str, str] | None:
        """A variant one of whose workers did not start or has ended, and why."""
        return next(((slot.variant.name, slot.failure) for slot in self.slots if slot.failure), None)

    def summaries(self, share: float = 1.0) -> list[dict[str, Any]]:
        """ProductionVariantSummaries while the fleet gets the part `share` of the endpoint's requests."""
        return [group.variant.summary(num_workers=len(group.slots), share=share) for group in self.groups]
