"""Log lines and MetricDefinitions in, metric values out."""

from __future__ import annotations

import math
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from local_sagemaker.sandbox.patterns import PatternProcesses

_MAX_POINTS = 20_000

JOB_CPU_S = 30.0
"""What the patterns of one job may use in all: a log of 64 MB needs a second for a plain one."""

# At most this often, and for at most this share of the time, a job's metrics are written down.
_WRITE_INTERVAL_S = 0.2
_WRITE_SHARE = 20


class Found(NamedTuple):
    line: int
    """Which of the lines, from 0."""
    name: str
    value: float
    """Also NaN or an infinity, where the text says so."""


class MetricPatterns:
    """The MetricDefinitions of a job. A pattern that overran is given up: `overran` are the positions of those."""

    def __init__(
        self, processes: PatternProcesses, definitions: Sequence[dict[str, str]], overran: Iterable[int] = ()
    ) -> None:
        self._processes = processes
        self._definitions = definitions
        self.overran = set(overran)
        self._spent_s: defaultdict[int, float] = defaultdict(float)
        """Of those that are not given up, by their position."""

    def find(self, lines: Sequence[str]) -> list[Found]:
        """What the lines hold, in their order. The first group must be a number; text that is none is not a metric.

        OSError when no process can be started to look for it.
        """
        wanted = [place for place in range(len(self._definitions)) if place not in self.overran]
        if not wanted or not any(lines):
            return []
        found: list[Found] = []
        patterns = [self._definitions[place]["Regex"] for place in wanted]
        answers = self._processes.numbers(patterns, lines, lambda at, cpu_s: self._spent(wanted[at], cpu_s))
        for place, numbers in zip(wanted, answers, strict=True):
            if numbers is None:
                self.overran.add(place)
                self._spent_s.pop(place, None)
            else:
                found += [Found(line, self._definitions[place]["Name"], value) for line, value in numbers]
        return sorted(found, key=lambda one: one.line)

    def _spent(self, place: int, cpu_s: float) -> None:
        """Where all together take too long, the costliest goes: a job that ends, or is to end, waits for them."""
        self._spent_s[place] += cpu_s
        while sum(self._spent_s.values()) > JOB_CPU_S:
            costliest = max(self._spent_s, key=lambda each: self._spent_s[each])
            self.overran.add(costliest)
            del self._spent_s[costliest]


class MetricSeries:
    """The values of a job's metrics in order of appearance, and when to write them down.

    A long series takes a while to write, so it is written the less often the longer it is. Not thread-safe.
    """

    def __init__(self, points: dict[str, list[list[float]]] | None = None) -> None:
        self.points = points or {}
        """Metric's name → [timestamp, value] pairs; of a metric with very many, the newest."""
        self._unwritten = False
        self._next_write = 0.0

    def add(self, name: str, timestamp: float, value: float) -> None:
        points = self.points.setdefault(name, [])
        points.append([timestamp, value])
        if len(points) > _MAX_POINTS:
            del points[: _MAX_POINTS // 2]
        self._unwritten = True

    def write(self, to: Callable[[dict[str, list[list[float]]]], None], *, now: bool = False) -> None:
        """Call `to` with the points, if there are new ones and it is time; with `now` it is."""
        if not self._unwritten or (not now and time.monotonic() < self._next_write):
            return
        started = time.monotonic()
        to(self.points)
        self._unwritten = False
        ended = time.monotonic()
        self._next_write = ended + max(_WRITE_INTERVAL_S, _WRITE_SHARE * (ended - started))


def final_metrics(series: dict[str, list[list[float]]]) -> list[dict[str, Any]]:
    """FinalMetricDataList: the last value of each metric, in float32 as CloudWatch reports it.

    A metric whose last value is NaN or infinite is left out: neither JSON nor CloudWatch has such a number, and an
    earlier one is not what the job ended with.
    `series` maps a metric's name to its [timestamp, value] pairs in order of appearance.
    """
    return [
        {"MetricName": name, "Value": as_float32(points[-1][1]), "Timestamp": points[-1][0]}
        for name, points in series.items()
        if points and math.isfinite(points[-1][1])
    ]


def as_float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0]) if abs(value) < 3.4e38 else value
