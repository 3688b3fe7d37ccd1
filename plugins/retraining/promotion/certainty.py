"""How sure a model was of its answers, beside how often they were right. Pure: what a page draws, and no decision."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

BINS = 15
"""Of equal width, as the calibration error counts them."""
THRESHOLDS = (*(hundredth / 100 for hundredth in range(100)), 0.995, 0.999)
"""Above which an answer might be believed: finer where models that are good have most of theirs."""


def certainty(certainties: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """{"bins": [[images, mean certainty, images right], …], "thresholds": [[threshold, answered, right], …]}.

    `certainties` are the probabilities of the answered classes. A bin without images is [0, 0, 0]; answered are those
    that are at least as sure as the threshold. 117 rows whatever the number of images.
    """
    bins: list[list[Any]] = [[0, 0.0, 0] for _ in range(BINS)]
    for sure, is_right in zip(certainties, right, strict=True):
        its = bins[bin_of(sure)]
        its[0], its[1], its[2] = its[0] + 1, its[1] + sure, its[2] + is_right
    ordered = sorted(zip(certainties, right, strict=True))
    sures = [sure for sure, _ in ordered]
    before = [0, *accumulate(int(is_right) for _, is_right in ordered)]
    n = len(ordered)
    return {
        "bins": [[count, round(total / count, 6) if count else 0, good] for count, total, good in bins],
        "thresholds": [
            [threshold, n - first, before[n] - before[first]]
            for threshold in THRESHOLDS
            for first in [bisect_left(sures, threshold)]
        ],
    }


def bin_of(sure: float) -> int:
    return min(int(sure * BINS), BINS - 1)
