"""A Gaussian process over a handful of observations: what the search expects where, and how sure it is.

Matérn 5/2 with a length scale per axis and noise; the hyperparameters are the most probable of some tried at random
and refined (Rasmussen and Williams 2006, section 2.2 and algorithm 2.1). Plain Python: with at most `MAX_POINTS` points
the matrices are small, and the server needs no numerical library for them.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Sequence
from operator import mul

Point = tuple[float, ...]
"""Coordinates in which distance means difference; see `bayesian.coordinates`."""

#: What fitting is affordable with; the caller thins longer histories.
MAX_POINTS = 50

# Priors of the logarithms as (mean, deviation): a length scale in parts of its axis (0.5, longer where there are many
# axes, because distances grow with their number), noise in parts of the signal's variance.
_LENGTH_PRIOR = (math.log(0.5), 0.9)
_NOISE_PRIOR = (math.log(0.02), 1.5)
_JITTER = 1e-6
# The signal's variance has an inverse gamma prior around 1 that weighs as much as this many observations.
_VARIANCE_WEIGHT = 3.0

# The search for hyperparameters: this many from the prior, then rounds of children of the best.
_DRAWS, _ROUNDS, _CHILDREN = 14, 3, 6
_PARENTS = 3

# How far below the median a value can count, in distances of the quartiles.
_WORST = -4.0

_SQRT5 = math.sqrt(5)
_SQRT_HALF = math.sqrt(0.5)
_DENSITY_AT_0 = 1 / math.sqrt(2 * math.pi)


@dataclasses.dataclass(frozen=True)
class _Kernel:
    """One set of hyperparameters, conditioned on observations."""

    logs: list[float]
    """The hyperparameters' logarithms: a length scale per axis, then the noise."""
    scales: Point
    """One over the length scale of each coordinate."""
    points: list[Point]
    """The observed points multiplied by `scales`."""
    inverse_factor: list[list[float]]
    """Rows of the inverse of the covariance's Cholesky factor."""
    weights: list[float]
    variance: float
    best: float
    """The highest value predicted at an observed point."""

    def mean(self, point: Point) -> float:
        return float(sum(map(mul, self._covariances(point), self.weights)))

    def expected_improvement(self, point: Point) -> float:
        """Over the best value *predicted* at an observed point: the best one observed may have been luck."""
        row = self._covariances(point)
        unexplained = 1.0
        for inverse in self.inverse_factor:
            unexplained -= sum(map(mul, inverse, row)) ** 2
        deviation = math.sqrt(self.variance * max(1e-12, unexplained))
        gain = (sum(map(mul, row, self.weights)) - self.best) / deviation
        below = 0.5 * (1 + math.erf(gain * _SQRT_HALF))
        return float(deviation * (gain * below + _DENSITY_AT_0 * math.exp(-0.5 * gain**2)))

    def _covariances(self, point: Point) -> list[float]:
        at = tuple(map(mul, point, self.scales))
        return [_matern(math.dist(at, other)) for other in self.points]


class GaussianProcess:
    """Fitted to `values` (higher is better, about standard normal) at `points`; deterministic for one `rng` state.

    `axes[i]` says to which axis coordinate i of a point belongs; the coordinates of one axis share a length scale.
    """

    def __init__(
        self, points: Sequence[Point], axes: Sequence[int], values: Sequence[float], rng: random.Random
    ) -> None:
        self._points, self._axes, self._values = list(points), axes, list(values)
        logs, variance = _fit(self._points, axes, self._values, rng)
        self._kernel = _condition(self._points, axes, self._values, logs, variance)

    def expect(self, points: Sequence[Point]) -> None:
        """Take the predicted values at these points for observed: what the process expects it need not look at."""
        known = self._kernel
        self._kernel = _condition(
            self._points + list(points),
            self._axes,
            self._values + [known.mean(point) for point in points],
            known.logs,
            known.variance,
        )

    def mean(self, point: Point) -> float:
        return self._kernel.mean(point)

    def expected_improvement(self, point: Point) -> float:
        return self._kernel.expected_improvement(point)


@dataclasses.dataclass(frozen=True)
class _Attempt:
    logs: list[float]
    log_density: float
    variance: float


def _fit(
    points: list[Point], axes: Sequence[int], values: list[float], rng: random.Random
) -> tuple[list[float], float]:
    num_axes = max(axes) + 1
    mean, deviation = _LENGTH_PRIOR
    prior = [(mean + 0.25 * math.log(max(1.0, num_axes / 2)), deviation)] * num_axes + [_NOISE_PRIOR]
    tried = [_attempt(points, axes, values, prior, [mean for mean, _ in prior])]
    for _ in range(_DRAWS - 1):
        tried.append(_attempt(points, axes, values, prior, [rng.gauss(*item) for item in prior]))
    for round_ in range(_ROUNDS):
        tried = sorted(tried, key=lambda attempt: -attempt.log_density)[:_PARENTS]
        step = 0.5 / (1 + 0.5 * round_)
        for child in range(_CHILDREN):
            parent = tried[child % _PARENTS].logs
            logs = [log + rng.gauss(0, step * spread) for log, (_, spread) in zip(parent, prior, strict=True)]
            tried.append(_attempt(points, axes, values, prior, logs))
    best = max(tried, key=lambda attempt: attempt.log_density)
    return best.logs, best.variance


def _attempt(
    points: list[Point], axes: Sequence[int], values: list[float], prior: list[tuple[float, float]], logs: list[float]
) -> _Attempt:
    factor = _cholesky(_scaled(points, axes, logs), math.exp(logs[-1]) + _JITTER)
    whitened = _solve(factor, values)
    count = len(values) + _VARIANCE_WEIGHT
    variance = (_VARIANCE_WEIGHT + sum(map(mul, whitened, whitened))) / count
    likelihood = -0.5 * count * math.log(variance) - sum(math.log(row[-1]) for row in factor)
    prior_density = -0.5 * sum(((log - mean) / spread) ** 2 for log, (mean, spread) in zip(logs, prior, strict=True))
    return _Attempt(logs, likelihood + prior_density, variance)


def _condition(
    points: list[Point], axes: Sequence[int], values: list[float], logs: list[float], variance: float
) -> _Kernel:
    scaled, noise = _scaled(points, axes, logs), math.exp(logs[-1]) + _JITTER
    factor = _cholesky(scaled, noise)
    whitened, inverse = _solve(factor, values), _inverse(factor)
    size = len(inverse)
    weights = [sum(inverse[i][j] * whitened[i] for i in range(j, size)) for j in range(size)]
    return _Kernel(
        logs=logs,
        scales=_scales(axes, logs),
        points=scaled,
        inverse_factor=inverse,
        weights=weights,
        variance=variance,
        best=max(value - noise * weight for value, weight in zip(values, weights, strict=True)),
    )


def _scales(axes: Sequence[int], logs: list[float]) -> Point:
    return tuple(math.exp(-logs[axis]) for axis in axes)


def _scaled(points: Sequence[Point], axes: Sequence[int], logs: list[float]) -> list[Point]:
    scales = _scales(axes, logs)
    return [tuple(map(mul, point, scales)) for point in points]


def _matern(distance: float) -> float:
    scaled = _SQRT5 * distance
    return (1 + scaled + scaled * scaled / 3) * math.exp(-scaled)


def _cholesky(points: list[Point], noise: float) -> list[list[float]]:
    """The lower factor of the points' covariance, row by row. `noise` keeps it positive definite: repeated points."""
    factor: list[list[float]] = []
    for point, others in zip(points, (points[:i] for i in range(len(points))), strict=True):
        row: list[float] = []
        for other, above in zip(others, factor, strict=True):
            row.append((_matern(math.dist(point, other)) - sum(map(mul, row, above))) / above[-1])
        row.append(math.sqrt(max(_JITTER, 1 + noise - sum(map(mul, row, row)))))
        factor.append(row)
    return factor


def _solve(factor: list[list[float]], values: Sequence[float]) -> list[float]:
    solution: list[float] = []
    for row, value in zip(factor, values, strict=True):
        solution.append((value - sum(map(mul, row, solution))) / row[-1])
    return solution


def _inverse(factor: list[list[float]]) -> list[list[float]]:
    size = len(factor)
    columns = []
    for j in range(size):
        column = [0.0] * j + [1 / factor[j][j]]
        for i in range(j + 1, size):
            column.append(-sum(map(mul, factor[i][j:i], column[j:i])) / factor[i][i])
        columns.append(column)
    return [[columns[j][i] for j in range(i + 1)] for i in range(size)]


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
