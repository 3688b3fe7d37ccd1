"""How sure is it that one model is better than another? Both answered the same images, so they are compared by image.

The interval of the gain is the percentile bootstrap over images (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 13): an image is drawn with both models' answers to it. p is how often two models that are
equally good would differ by as much as this. For accuracy it is McNemar's test in its exact form, a two-sided binomial
test on the images that only one of the two got right (McNemar, Psychometrika 12, 1947; recommended for two classifiers
on one test set by Dietterich, Neural Computation 10, 1998). For other metrics the answers of the two models are swapped
at random, image by image (Noreen, Computer Intensive Methods for Testing Hypotheses, 1989; for F1: Yeh, COLING 2000);
swapping all ways at once for accuracy is McNemar's test. Both are needed: alone, the bootstrap is too sure of itself
where only a few images differ.

Same answers, same result: the random numbers have a fixed seed. The time is that of RESAMPLES x n draws: on one core
0.1 seconds for 300 images; for 50,000 images of 1,000 classes about 10 seconds (accuracy, log_loss) or 45 (macro_f1),
which is less than reading as many answers from S3 takes.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import compress
from typing import Any

from retraining.promotion.scores import Evaluation

RESAMPLES = 2000
SEED = 20261121
# Differences far below one image of one million are rounding, not better or worse.
ROUNDING = 1e-9

# (truth, candidate's answer, champion's answer)
Cell = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Two models on the same images. A positive gain says that the candidate is better, for log_loss too."""

    metric: str
    n: int
    won: int
    """Images that the candidate gets right and the champion got wrong."""
    lost: int
    """The other way."""
    gain: float
    low: float
    high: float
    confidence: float
    """Of the interval from low to high."""
    p: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def significant(self) -> bool:
        return self.p <= 1 - self.confidence + ROUNDING

    def __str__(self) -> str:
        p = f"p = {self.p:.2g}" if self.p >= 0.001 else "p < 0.001"
        return (
            f"of {self.n} test images {self.won} are now right that were wrong, {self.lost} the other way "
            f"({p}; {100 * self.confidence:g} % interval of the gain {self.low:+.4f} to {self.high:+.4f})"
        )


def weigh(candidate: Evaluation, champion: Evaluation, metric: str, confidence: float) -> Evidence:
    """The evidence of two evaluations of the same images; the caller has made sure that they are the same."""
    cells = list(_cells(candidate, champion))
    won = sum(truth == ours != theirs for truth, ours, theirs in cells)
    lost = sum(truth == theirs != ours for truth, ours, theirs in cells)
    classes = len(candidate.classes)
    chance = random.Random(SEED)
    if metric == "macro_f1":
        gains = _resampled_f1_gains(cells, classes, chance)
        p = _swapped_f1(cells, classes, chance)
    elif metric == "log_loss":
        better_by = [b - a for a, b in zip(candidate.outcomes.losses, champion.outcomes.losses, strict=True)]
        gains = _resampled_means(better_by, chance)
        p = _swapped_mean(better_by, chance)
    else:
        gains = _resampled_means([(t == a) - (t == b) for t, a, b in cells], chance)
        p = mcnemar(won, lost)
    low, high = _interval(gains, confidence)
    ours, theirs = float(getattr(candidate, metric)), float(getattr(champion, metric))
    return Evidence(
        metric=metric,
        n=len(cells),
        won=won,
        lost=lost,
        gain=theirs - ours if metric == "log_loss" else ours - theirs,
        low=low,
        high=high,
        confidence=confidence,
        p=p,
    )


def mcnemar(won: int, lost: int) -> float:
    """The exact two-sided p: twice the smaller tail of Binomial(won + lost, 1/2)."""
    return min(1.0, 2 * tail(min(won, lost), won + lost))


def tail(most: int, n: int) -> float:
    """P(X <= most) for X of Binomial(n, 1/2), in whole numbers until the end."""
    ways, term = 0, 1
    for k in range(most + 1):
        ways += term
        term = term * (n - k) // (k + 1)
    share: float = ways / 2**n
    return share


# --- parts ----------------------------------------------------------------------------------------------------------


def _cells(candidate: Evaluation, champion: Evaluation) -> Iterator[Cell]:
    ours, theirs = candidate.outcomes, champion.outcomes
    return zip(ours.truths, ours.answered, theirs.answered, strict=True)


def _interval(gains: list[float], confidence: float) -> tuple[float, float]:
    """The middle share of the gains."""
    ordered, outside = sorted(gains), int(len(gains) * (1 - confidence) / 2 + ROUNDING)
    return ordered[outside], ordered[-1 - outside]


def _resampled_means(better_by: list[Any], chance: random.Random) -> list[float]:
    n = len(better_by)
    return [sum(chance.choices(better_by, k=n)) / n for _ in range(RESAMPLES)]


def _resampled_f1_gains(cells: list[Cell], classes: int, chance: random.Random) -> list[float]:
    kinds, numbers = _numbered(cells)
    return [_f1_gain(Counter(chance.choices(numbers, k=len(cells))), kinds, classes) for _ in range(RESAMPLES)]


def _swapped_f1(cells: list[Cell], classes: int, chance: random.Random) -> float:
    differing = [cell for cell in cells if cell[1] != cell[2]]
    swapped = [(truth, theirs, ours) for truth, ours, theirs in differing]
    kinds, numbers = _numbered([*differing, *swapped, *(cell for cell in cells if cell[1] == cell[2])])
    n = len(differing)
    agreed = Counter(numbers[2 * n :])

    def gain(flags: bytes) -> float:
        counts = agreed.copy()
        counts.update(compress(numbers[:n], flags.translate(_OTHER)))
        counts.update(compress(numbers[n : 2 * n], flags))
        return _f1_gain(counts, kinds, classes)

    return _share_as_large(gain(bytes(n)), gain, n, chance)


def _numbered(cells: list[Cell]) -> tuple[list[Cell], list[int]]:
    """The different cells, and for each cell its position there: whole numbers are counted faster than cells."""
    positions: dict[Cell, int] = {}
    numbers = [positions.setdefault(cell, len(positions)) for cell in cells]
    return list(positions), numbers


def _f1_gain(counts: Counter[int], kinds: list[Cell], classes: int) -> float:
    """Macro F1 of the candidate less the champion's; F1 = 2 right / (images of the class + answers of the class)."""
    # One place more, for answers of classes that are none of these.
    images, our_answers, their_answers, our_right, their_right = ([0] * (classes + 1) for _ in range(5))
    for number, count in counts.items():
        truth, ours, theirs = kinds[number]
        images[truth] += count
        our_answers[ours] += count
        their_answers[theirs] += count
        if ours == truth:
            our_right[truth] += count
        if theirs == truth:
            their_right[truth] += count
    return (_f1_sum(images, our_answers, our_right) - _f1_sum(images, their_answers, their_right)) / classes


def _f1_sum(images: list[int], answers: list[int], right: list[int]) -> float:
    return sum(2 * hits / (n + answered) for n, answered, hits in zip(images, answers, right, strict=True) if hits)


def _swapped_mean(better_by: list[float], chance: random.Random) -> float:
    total = math.fsum(better_by)

    def gain(flags: bytes) -> float:
        return total - 2 * sum(compress(better_by, flags))

    return _share_as_large(total, gain, len(better_by), chance)


def _share_as_large(observed: float, gain: Callable[[bytes], float], n: int, chance: random.Random) -> float:
    """How often a gain after random swaps (one byte for each image, 0 or 1) is as large as the observed one.

    The observed one counts as one of them, so that p is never 0 (Phipson and Smyth, 2010).
    """
    least = abs(observed) - ROUNDING
    as_large = sum(abs(gain(chance.randbytes(n).translate(_COIN))) >= least for _ in range(RESAMPLES))
    return (1 + as_large) / (1 + RESAMPLES)


_COIN = bytes(value & 1 for value in range(256))
_OTHER = bytes([1, 0]) + bytes(254)
