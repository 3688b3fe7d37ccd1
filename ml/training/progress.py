"""How far a training is: its epochs, the best of them, and when waiting for a better one ends."""

import math
from dataclasses import dataclass, field

from training import metrics


@dataclass
class Progress:
    """How far a training is, and what its epochs gave; a checkpoint holds it as it is."""

    epoch: int = 0
    step: int = 0
    history: list = field(default_factory=list)
    best: dict | None = None
    """The metrics of the best epoch, with its number."""
    stale: int = 0
    """Epochs since the last gain of at least --min-delta."""

    def add(self, values, settings):
        """Note the metrics of the epoch that has ended; returns whether it is the best, which takes finite numbers."""
        entry = {"epoch": self.epoch, **values}
        self.history.append(entry)
        sign = metrics.OBJECTIVES[settings.objective]
        bar = -math.inf if self.best is None else sign * self.best[settings.objective]
        gain = not metrics.nonfinite(values) and sign * values[settings.objective] > bar + settings.min_delta
        self.stale = 0 if gain else self.stale + 1
        if not metrics.better(values, self.best, settings.objective):
            return False
        self.best = entry
        return True

    def exhausted(self, settings):
        return 0 < settings.patience <= self.stale
