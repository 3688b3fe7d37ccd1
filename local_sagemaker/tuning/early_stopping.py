"""Early stopping of hopeless training jobs (TrainingJobEarlyStoppingType Auto). Pure.

SageMaker documents its rule: after each epoch, a job whose objective is worse than the median of the running averages
that the jobs before it had up to the same epoch is stopped. It is the median stopping rule of Golovin et al. 2017
(Google Vizier), section 3.2, with the latest value instead of the best. "Before it" are jobs that completed here.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence


class MedianRule:
    """Grows with each job that ends; judging takes one look at each of them, however long their series are."""

    def __init__(self, *, maximize: bool) -> None:
        self._maximize = maximize
        self._averages: list[list[float]] = []
        """Running averages of the ended jobs, by epoch."""

    def add(self, values: Sequence[float]) -> None:
        """The objectives a completed job printed, in order."""
        sums = itertools.accumulate(value for value in values if math.isfinite(value))
        self._averages.append([total / count for count, total in enumerate(sums, start=1)])

    def is_hopeless(self, values: Sequence[float]) -> bool:
        """Whether a job that has printed these objectives so far is stopped."""
        epoch = len(values)
        comparable = [averages[epoch - 1] for averages in self._averages if len(averages) >= epoch > 0]
        if not comparable:
            return False
        median = statistics.median(comparable)
        return values[-1] < median if self._maximize else values[-1] > median
