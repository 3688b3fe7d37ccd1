"""From the history of a tuning job to the next hyperparameters. Pure: the same history and seed give the same answer.

Random draws from each range's own scale. Grid takes the combinations in the order in which they are written, the last
range changing fastest. Bayesian asks a model (`bayesian.py`). Hyperband draws at random, as Li et al. 2018 do, and
saves by ending jobs early (`hyperband.py`). No strategy tries the same combination of whole numbers and categories
twice.

RandomSeed: suggestion n depends on the seed, on n and on the results known at that moment. With MaxParallelTrainingJobs
1 a search is repeated exactly when its objectives are; with more, the order in which jobs end decides what suggestion n
could know, so Bayesian searches may differ, while Random, Hyperband and Grid ones do not.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator, Sequence

from local_sagemaker.tuning import bayesian
from local_sagemaker.tuning.ranges import Range, combinations

# Draws before what is left of a nearly exhausted space is listed.
_DRAWS = 50

_Texts = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One training job of the tuning job."""

    hyperparameters: dict[str, str]
    """The tuned ones only, as text."""
    objective: float | None
    """None while it runs, and when it ended without a value."""
    running: bool = False


def suggest(
    ranges: Sequence[Range],
    trials: Sequence[Trial],
    *,
    strategy: str,
    maximize: bool,
    seed: str,
    inherited: Sequence[Trial] = (),
    other_data: bool = False,
) -> dict[str, str]:
    """The next trial's tuned hyperparameters, as text. There must be a combination left that has not been tried.

    `inherited` are finished trials of a warm start's parents; with `other_data` (TransferLearning) their level counts
    for nothing, only what they say about which hyperparameters are better than others.
    """
    rng = random.Random(f"{seed}/{len(trials)}")
    if strategy == "Grid":
        texts = next(itertools.islice(_all(ranges), len(trials), None))
    elif strategy == "Bayesian":
        texts = _by_model(ranges, trials, inherited, maximize, seed, other_data, rng)
    else:
        texts = _drawn(ranges, _taken(ranges, trials), rng)
    return {item.name: text for item, text in zip(ranges, texts, strict=True)}


def _by_model(
    ranges: Sequence[Range],
    trials: Sequence[Trial],
    inherited: Sequence[Trial],
    maximize: bool,
    seed: str,
    other_data: bool,
    rng: random.Random,
) -> _Texts:
    own = _observed(ranges, trials, maximize)
    before = _observed(ranges, inherited, maximize)
    if other_data:
        shift = bayesian.offset(ranges, before, own)
        before = [(position, value + shift) for position, value in before]
    taken = _taken(ranges, trials)
    if len(own) + len(before) < bayesian.STARTUP:
        if not before and len(trials) < bayesian.STARTUP:
            texts = _texts(ranges, bayesian.latin_hypercube(ranges, len(trials), seed))
            if texts not in taken:
                return texts
        return _drawn(ranges, taken, rng)
    if len(trials) % bayesian.EXPLORE_EVERY == bayesian.EXPLORE_EVERY - 1:
        return _drawn(ranges, taken, rng)
    pending = [_position(ranges, trial) for trial in trials if trial.running]
    found = bayesian.best_first(ranges, before + own, pending, rng)
    fresh = (texts for position in found if (texts := _texts(ranges, position)) not in taken)
    return next(fresh, None) or _drawn(ranges, taken, rng)


def _observed(
    ranges: Sequence[Range], trials: Sequence[Trial], maximize: bool
) -> list[tuple[bayesian.Position, float]]:
    sign = 1 if maximize else -1
    return [
        (_position(ranges, trial), sign * trial.objective)
        for trial in trials
        if trial.objective is not None and math.isfinite(trial.objective)
    ]


def _position(ranges: Sequence[Range], trial: Trial) -> bayesian.Position:
    return [item.position(trial.hyperparameters[item.name]) for item in ranges]


def _texts(ranges: Sequence[Range], position: bayesian.Position) -> _Texts:
    return tuple(item.text(place) for item, place in zip(ranges, position, strict=True))


def _taken(ranges: Sequence[Range], trials: Sequence[Trial]) -> set[_Texts]:
    if math.isinf(combinations(ranges)):
        return set()
    return {tuple(trial.hyperparameters[item.name] for item in ranges) for trial in trials}


def _drawn(ranges: Sequence[Range], taken: set[_Texts], rng: random.Random) -> _Texts:
    for _ in range(_DRAWS):
        texts = tuple(item.text(rng.random()) for item in ranges)
        if texts not in taken:
            return texts
    return rng.choice([texts for texts in _all(ranges) if texts not in taken])


def _all(ranges: Sequence[Range]) -> Iterator[_Texts]:
    """Every combination of a finite space, the last range changing fastest."""
    return itertools.product(*(item.texts() for item in ranges))
