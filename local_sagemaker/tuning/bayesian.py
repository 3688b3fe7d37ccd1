"""The Bayesian strategy: the next point is where a Gaussian process expects the most improvement.

SageMaker's is a Gaussian process with expected improvement too (Perrone et al. 2021, arXiv:2012.08489), so a search
here behaves alike, but the points are not the same ones. A search begins with a Latin hypercube: every part of every
range is tried once; later, one suggestion in seven is drawn at random. Trials that still run count with the value the
process expects of them, so that parallel trials spread.

Of a long history only the best and a spread of the others are looked at, so a suggestion takes about 0.1 s at most.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from local_sagemaker.tuning.ranges import Categorical, Continuous, Range
from local_sagemaker.tuning.standard_scores import standardize

if TYPE_CHECKING:
    from local_sagemaker.tuning.gaussian_process import GaussianProcess

Position = list[float]
"""A point of the search: one number from 0 to 1 per range, in their order."""
Point = tuple[float, ...]
"""Coordinates in which distance means difference."""

# Chosen with the functions of bench/tuner.py, on other seeds than it prints.
STARTUP = 6
"""How many results there must be before the model is asked."""
EXPLORE_EVERY = 7
"""One suggestion in so many is drawn at random: a model that has settled on the wrong category hears of the others."""
_CANDIDATES, _NEIGHBOURS, _NEAR = 300, 75, 0.1
_REFINEMENTS, _REFINED, _KEPT = 4, 25, 6
_MAX_PENDING = 20
_MAX_POINTS = 50

#: How far from a result others still say something about it, in parts of an axis.
_CLOSE = 0.1

_SQRT_HALF = math.sqrt(0.5)
_BELOW_1 = math.nextafter(1.0, 0.0)


def latin_hypercube(ranges: Sequence[Range], index: int, seed: str) -> Position:
    """Trial `index` of the `STARTUP` that begin a search."""
    rng = random.Random(f"{seed}/latin hypercube")
    columns = [rng.sample(range(STARTUP), STARTUP) for _ in ranges]
    inside = random.Random(f"{seed}/latin hypercube/{index}")
    return [(column[index] + inside.random()) / STARTUP for column in columns]


def best_first(
    ranges: Sequence[Range],
    observed: Sequence[tuple[Position, float]],
    pending: Sequence[Position],
    rng: random.Random,
) -> list[Position]:
    """Candidates for the next point, the one of highest expected improvement first.

    `observed` are positions and their objectives, higher is better, at least one; `pending` run and have none yet.
    """
    model, kept = _model(ranges, observed, rng)
    means = model.mean([coordinates(ranges, position) for position in kept])
    best = [position for _, position in sorted(zip(means, kept, strict=True), key=lambda pair: -pair[0])][:_KEPT]
    if pending:
        model.expect([coordinates(ranges, position) for position in pending[-_MAX_PENDING:]])

    def scored(positions: list[Position]) -> list[tuple[float, Position]]:
        snapped = [_snap(ranges, position) for position in positions]
        gains = model.expected_improvement([coordinates(ranges, position) for position in snapped])
        return list(zip(gains, snapped, strict=True))

    found = scored([[rng.random() for _ in ranges] for _ in range(_CANDIDATES)])
    found += scored([_near(ranges, rng.choice(best), _NEAR, rng) for _ in range(_NEIGHBOURS)])
    found.sort(key=lambda pair: -pair[0])
    for refinement in range(_REFINEMENTS):
        centres = [position for _, position in found[:_KEPT]]
        width = _NEAR / 2**refinement
        found += scored([_near(ranges, rng.choice(centres), width, rng) for _ in range(_REFINED)])
        found.sort(key=lambda pair: -pair[0])
    return [position for _, position in found]


def offset(
    ranges: Sequence[Range], parents: Sequence[tuple[Position, float]], own: Sequence[tuple[Position, float]]
) -> float:
    """By how much the same hyperparameters do better here than they did in the parents of a warm start.

    Other data moves all objectives up or down together. Each own result is compared with the parents' results around it
    (their average, weighted by closeness), and the median difference is what the data makes.
    """
    if not parents or not own:
        return 0.0
    gaps = []
    for position, value in own:
        at = coordinates(ranges, position)
        distances = [math.dist(at, coordinates(ranges, other)) for other, _ in parents]
        closest = min(distances)
        weights = [math.exp((closest - distance) / _CLOSE) for distance in distances]
        expected = sum(w * v for w, (_, v) in zip(weights, parents, strict=True)) / sum(weights)
        gaps.append(value - expected)
    return statistics.median(gaps)


def coordinates(ranges: Sequence[Range], position: Position) -> Point:
    """Numbers stay; a categorical value becomes a corner of a simplex, as far from every other value as 0 is from 1."""
    point: list[float] = []
    for item, place in zip(ranges, position, strict=True):
        if isinstance(item, Categorical):
            chosen = item.values.index(item.text(place))
            point += [_SQRT_HALF if index == chosen else 0.0 for index in range(len(item.values))]
        else:
            point.append(place)
    return tuple(point)


def _model(
    ranges: Sequence[Range], observed: Sequence[tuple[Position, float]], rng: random.Random
) -> tuple[GaussianProcess, list[Position]]:
    # NumPy: a third of the server's own start, for what few of its days need.
    from local_sagemaker.tuning.gaussian_process import GaussianProcess

    kept = _thin(observed)
    positions = [_snap(ranges, position) for position, _ in kept]
    axes = [
        axis
        for axis, item in enumerate(ranges)
        for _ in range(len(item.values) if isinstance(item, Categorical) else 1)
    ]
    points = [coordinates(ranges, position) for position in positions]
    return GaussianProcess(points, axes, standardize([value for _, value in kept]), rng), positions


def _thin(observed: Sequence[tuple[Position, float]]) -> list[tuple[Position, float]]:
    """At most _MAX_POINTS of them: the best third whole, of the others every so many, from good to bad."""
    if len(observed) <= _MAX_POINTS:
        return list(observed)
    ranked = sorted(observed, key=lambda pair: -pair[1])
    best, others = ranked[: _MAX_POINTS // 3], ranked[_MAX_POINTS // 3 :]
    room = _MAX_POINTS - len(best)
    return best + [others[index * len(others) // room] for index in range(room)]


def _snap(ranges: Sequence[Range], position: Position) -> Position:
    """The position that the model shall see: an integer's own place, not where in its part of the axis it was drawn."""
    return [
        place if isinstance(item, Continuous) else item.position(item.text(place))
        for item, place in zip(ranges, position, strict=True)
    ]


def _near(ranges: Sequence[Range], centre: Position, width: float, rng: random.Random) -> Position:
    """A point beside another one: some of its coordinates are moved, a categorical one to any value."""
    moved = max(0.3, min(1.0, 2 / len(ranges)))
    position = []
    for item, place in zip(ranges, centre, strict=True):
        if rng.random() >= moved:
            position.append(place)
        elif isinstance(item, Categorical):
            position.append(rng.random())
        else:
            position.append(min(_BELOW_1, max(0.0, place + rng.gauss(0, width))))
    return position
