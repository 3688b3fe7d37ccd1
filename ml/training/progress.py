"""How far a training is: its epochs, the best of them, and when waiting for a better one ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from training import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from training.settings import Selection


@dataclass
class Progress:
    """How far a training is, and what its epochs gave; a checkpoint holds it as it is."""

    epoch: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] | None = None
    """The metrics of the best epoch, with its number."""
    stale: int = 0
    """Epochs since the last gain of at least --min-delta."""

    def add(self, values: Mapping[str, float], settings: Selection) -> bool:
        """Note the metrics of the epoch that has ended; returns whether it is the best, which takes finite numbers."""
        entry = {"epoch": self.epoch, **values}
        sign = metrics.OBJECTIVES[settings.objective]
        bar = -math.inf if self.counted is None else sign * self.counted[settings.objective]
        gain = not metrics.nonfinite(values) and sign * values[settings.objective] > bar + settings.min_delta
        self.stale = 0 if gain else self.stale + 1
        self.history.append(entry)
        if not metrics.better(values, self.best, settings.objective):
            return False
        self.best = entry
        return True

    @property
    def counted(self) -> dict[str, float] | None:
        """The epoch of the last gain; None: none yet. Not the best: small gains since then add up, as in Keras."""
        return self.history[-1 - self.stale] if self.stale < len(self.history) else None

    def exhausted(self, settings: Selection) -> bool:
        return 0 < settings.patience <= self.stale
