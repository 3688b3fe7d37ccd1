"""Objectives as standard scores, which a diverged training does not spoil."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

# How far below the median a value can count, in distances of the quartiles.
_WORST = -4.0


def standardize(values: Sequence[float]) -> list[float]:
    """Values to zero mean and unit deviation, after pulling in what is far below the median.

    A diverged training reports a loss of a million; taken at its word it would make all good values look the same.
    """
    middle = statistics.median(values)
    spread = _spread(values)
    steps = [(value - middle) / spread for value in values]
    pulled = [step if step > -1 else max(_WORST, -1 - math.log(-step)) for step in steps]
    mean, deviation = statistics.fmean(pulled), statistics.pstdev(pulled) or 1.0
    return [(step - mean) / deviation for step in pulled]


def _spread(values: Sequence[float]) -> float:
    """The distance of the quartiles, unless the lower one is far out: then some multiple of the upper half of it."""
    if len(values) < 2:
        return 1.0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return min(high - low, 5 * (high - middle)) or high - low or statistics.pstdev(values) or 1.0
