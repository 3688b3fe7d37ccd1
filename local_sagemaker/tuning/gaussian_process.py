"""A Gaussian process over a handful of observations: what the search expects where, and how sure it is.

Matérn 5/2 with a length scale per axis and noise; the hyperparameters are the most probable of some tried at random
and refined (Rasmussen and Williams 2006, section 2.2 and algorithm 2.1).
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.floating[Any]]

# Priors of the logarithms as (mean, deviation): a length scale in parts of its axis (0.5, longer where there are many
# axes, because distances grow with their number), noise in parts of the signal's variance.
_LENGTH_PRIOR = (math.log(0.5), 0.9)
_NOISE_PRIOR = (math.log(0.02), 1.5)
# What keeps a covariance positive definite where points repeat themselves and the noise is next to none.
_JITTER = 1e-6
# The signal's variance has an inverse gamma prior around 1 that weighs as much as this many observations.
_VARIANCE_WEIGHT = 3.0

# The search for hyperparameters: this many from the prior, then rounds of children of the best.
_DRAWS, _ROUNDS, _CHILDREN = 14, 3, 6
_PARENTS = 3

_DENSITY_AT_0 = 1 / math.sqrt(2 * math.pi)


@dataclasses.dataclass(frozen=True)
class _Kernel:
    """One set of hyperparameters, conditioned on n observations in d coordinates."""

    logs: _Array
    """The hyperparameters' logarithms: a length scale per axis, then the noise."""
    scales: _Array
    """(d,): one over the length scale of each coordinate."""
    points: _Array
    """(n, d): the observed points multiplied by `scales`."""
    inverse_factor: _Array
    """(n, n): the inverse of the covariance's lower Cholesky factor."""
    weights: _Array
    """(n,): the inverse covariance times the observed values."""
    variance: float
    best: float
    """The highest value predicted at an observed point."""

    def mean(self, points: _Array) -> _Array:
        return self._covariances(points) @ self.weights

    def expected_improvement(self, points: _Array) -> _Array:
        """Over the best value *predicted* at an observed point: the best one observed may have been luck."""
        covariances = self._covariances(points)
        explained = np.square(covariances @ self.inverse_factor.T).sum(axis=1)
        deviation = np.sqrt(self.variance * np.maximum(1e-12, 1 - explained))
        gain = (covariances @ self.weights - self.best) / deviation
        below = np.array([0.5 * (1 + math.erf(value)) for value in gain * math.sqrt(0.5)])
        return np.asarray(deviation * (gain * below + _DENSITY_AT_0 * np.exp(-0.5 * gain**2)))

    def _covariances(self, points: _Array) -> _Array:
        return _matern(points * self.scales, self.points)


class GaussianProcess:
    """Fitted to `values` (n,; higher is better, about standard normal) at `points` (n, d); one `rng` state, one fit.

    `axes[i]` says to which axis coordinate i of a point belongs; the coordinates of one axis share a length scale.
    """

    def __init__(
        self, points: Sequence[Sequence[float]], axes: Sequence[int], values: Sequence[float], rng: random.Random
    ) -> None:
        self._points, self._axes, self._values = np.array(points), np.array(axes), np.array(values)
        best = _fit(self._points, self._axes, self._values, rng)
        self._kernel = _condition(self._points, self._axes, self._values, best.logs, best.variance)

    def expect(self, points: Sequence[Sequence[float]]) -> None:
        """Take the predicted values at these points for observed: what the process expects it need not look at."""
        more, known = np.array(points), self._kernel
        self._kernel = _condition(
            np.concatenate([self._points, more]),
            self._axes,
            np.concatenate([self._values, known.mean(more)]),
            known.logs,
            known.variance,
        )

    def mean(self, points: Sequence[Sequence[float]]) -> list[float]:
        """What is expected at each of the points."""
        return _listed(self._kernel.mean(np.array(points)))

    def expected_improvement(self, points: Sequence[Sequence[float]]) -> list[float]:
        """By how much each of the points is expected to beat the best one known."""
        return _listed(self._kernel.expected_improvement(np.array(points)))


@dataclasses.dataclass(frozen=True)
class _Attempt:
    logs: _Array
    log_density: float
    variance: float


def _fit(points: _Array, axes: npt.NDArray[Any], values: _Array, rng: random.Random) -> _Attempt:
    """The most probable hyperparameters of those tried, and the signal's variance under them."""
    num_axes = int(axes.max()) + 1
    mean, deviation = _LENGTH_PRIOR
    length_prior = (mean + 0.25 * math.log(max(1.0, num_axes / 2)), deviation)
    prior = np.array([length_prior] * num_axes + [_NOISE_PRIOR])
    middle, spread = prior.T

    def drawn(around: _Array, step: float) -> _Attempt:
        return _attempt(points, axes, values, prior, around + step * spread * [rng.gauss(0, 1) for _ in spread])

    tried = [_attempt(points, axes, values, prior, middle)] + [drawn(middle, 1.0) for _ in range(_DRAWS - 1)]
    for round_ in range(_ROUNDS):
        tried = sorted(tried, key=lambda attempt: -attempt.log_density)[:_PARENTS]
        step = 0.5 / (1 + 0.5 * round_)
        tried += [drawn(tried[child % _PARENTS].logs, step) for child in range(_CHILDREN)]
    return max(tried, key=lambda attempt: attempt.log_density)


def _attempt(points: _Array, axes: npt.NDArray[Any], values: _Array, prior: _Array, logs: _Array) -> _Attempt:
    factor = _factor(points * _scales(axes, logs), logs)
    whitened = np.linalg.solve(factor, values)
    count = len(values) + _VARIANCE_WEIGHT
    variance = float((_VARIANCE_WEIGHT + whitened @ whitened) / count)
    likelihood = -0.5 * count * math.log(variance) - float(np.log(np.diag(factor)).sum())
    prior_density = -0.5 * float(np.square((logs - prior[:, 0]) / prior[:, 1]).sum())
    return _Attempt(logs, likelihood + prior_density, variance)


def _condition(points: _Array, axes: npt.NDArray[Any], values: _Array, logs: _Array, variance: float) -> _Kernel:
    scales = _scales(axes, logs)
    scaled = points * scales
    inverse = np.linalg.inv(_factor(scaled, logs))
    weights = inverse.T @ (inverse @ values)
    best = float((values - _noise(logs) * weights).max())
    return _Kernel(logs, scales, scaled, inverse, weights, variance, best)


def _scales(axes: npt.NDArray[Any], logs: _Array) -> _Array:
    return np.asarray(np.exp(-logs[axes]))


def _noise(logs: _Array) -> float:
    return math.exp(logs[-1]) + _JITTER


def _factor(scaled: _Array, logs: _Array) -> _Array:
    """The lower Cholesky factor of the observations' covariance, in parts of the signal's variance."""
    return np.linalg.cholesky(_matern(scaled, scaled) + _noise(logs) * np.eye(len(scaled)))


def _matern(points: _Array, others: _Array) -> _Array:
    """(n, d) and (m, d), multiplied by their scales -> (n, m) covariances."""
    distances = math.sqrt(5) * np.linalg.norm(points[:, None] - others[None], axis=2)
    return np.asarray((1 + distances + distances**2 / 3) * np.exp(-distances))


def _listed(values: _Array) -> list[float]:
    return [float(value) for value in values]
