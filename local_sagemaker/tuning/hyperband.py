"""Hyperband: many short looks, few long ones. Pure.

The algorithm is Li et al. 2018 (JMLR 18, https://jmlr.org/papers/v18/16-558.html), algorithm 1, with eta = 3, R =
MaxResource and 1 = MinResource. One unit of resource is one value of the objective: a script prints it once per epoch.
Bracket s of s_max, ..., 0 begins n_s = ceil((s_max + 1) / (s + 1) * eta**s) configurations, drawn at random, and looks
at them after r_s = R / eta**s units, then after eta times as many, and so on: the rungs. At each rung the best 1 / eta
go on.

A training job cannot be paused, so a rung does not wait until its last configuration has arrived. As in the stopping
variant of asynchronous successive halving (Li et al. 2020, arXiv:1810.05934; Syne Tune's `stopping`), a job that
reaches a rung goes on if it is among the best 1 / eta, at least one, of those that have reached this rung before it,
itself included; else it is stopped by StopTrainingJob. The first to arrive always goes on, so about n / eta + ln(n)
continue instead of n / eta. AWS documents the same frame: a job is not stopped before MinResource and uses no more than
MaxResource.

Trials go to the brackets in the proportions of n_s, interleaved, so that a search with fewer than sum(n_s) trials has
looked at every bracket; a longer one begins anew. A job that prints more values than MaxResource is stopped; one that
prints just as many is left to save its model.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

ETA = 3
MAX_RESOURCE = 20_000

Series = Sequence[tuple[float, float]]
"""(time, objective) of each unit of resource, in order."""


@dataclasses.dataclass(frozen=True)
class Bracket:
    size: int
    """How many configurations it begins in one round: n_s."""
    rungs: tuple[int, ...]
    """Units of resource after which its jobs are judged, ascending; MaxResource, where they end, is not among them."""


def brackets(min_resource: int, max_resource: int) -> list[Bracket]:
    """From the most eager bracket, with most configurations and rungs, to the one that judges none."""
    s_max = 0
    while min_resource * ETA ** (s_max + 1) <= max_resource:
        s_max += 1
    return [
        Bracket(
            size=math.ceil((s_max + 1) / (s + 1) * ETA**s),
            rungs=tuple(max_resource // ETA**k for k in range(s, 0, -1)),
        )
        for s in range(s_max, -1, -1)
    ]


def bracket_of(index: int, all_brackets: Sequence[Bracket]) -> int:
    """The bracket of trial `index` of a search (from 0): the one that lags most behind its proportion."""
    sizes = tuple(bracket.size for bracket in all_brackets)
    place = index % sum(sizes)
    return _shares(sizes, 1 << place.bit_length())[place]


@functools.cache
def _shares(sizes: tuple[int, ...], length: int) -> list[int]:
    counts = [0] * len(sizes)
    chosen = []
    for place in range(1, length + 1):
        lags = [size * place / sum(sizes) - count for size, count in zip(sizes, counts, strict=True)]
        chosen.append(lags.index(max(lags)))
        counts[chosen[-1]] += 1
    return chosen


def is_stopped(bracket: Bracket, own: Series, others: Sequence[Series], max_resource: int, *, maximize: bool) -> bool:
    """Whether a job ends now. `others` are the jobs of the same bracket, running or ended."""
    if len(own) > max_resource:
        return True
    return any(_loses(own, others, rung, maximize) for rung in bracket.rungs if len(own) >= rung)


def _loses(own: Series, others: Sequence[Series], rung: int, maximize: bool) -> bool:
    """At one rung, as it was when the job came there: who came later does not count, so a verdict does not change."""
    arrived, value = own[rung - 1]
    earlier = [other[rung - 1][1] for other in others if len(other) >= rung and other[rung - 1][0] <= arrived]
    better = sum(other > value if maximize else other < value for other in earlier)
    return better >= max(1, (len(earlier) + 1) // ETA)
