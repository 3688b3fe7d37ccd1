"""Log lines and MetricDefinitions in, metric values out."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_MAX_POINTS = 20_000

# At most this often, and for at most this share of the time, a job's metrics are written down.
_WRITE_INTERVAL_S = 0.2
_WRITE_SHARE = 20


class MetricPatterns:
    """The compiled MetricDefinitions of a job; raises re.error for a regex that does not compile."""

    def __init__(self, definitions: Iterable[dict[str, str]]) -> None:
        self._patterns = [(item["Name"], re.compile(item["Regex"])) for item in definitions]

    def find(self, line: str) -> Iterator[tuple[str, float]]:
        """Each (name, value) a line holds. The first group must be a number; text that is none is not a metric."""
        for name, pattern in self._patterns:
            for match in pattern.finditer(line):
                try:
                    yield name, float(match.group(1) if pattern.groups else match.group(0))
                except ValueError:
                    continue


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

    `series` maps a metric's name to its [timestamp, value] pairs in order of appearance.
    """
    return [
        {"MetricName": name, "Value": as_float32(points[-1][1]), "Timestamp": points[-1][0]}
        for name, points in series.items()
        if points
    ]


def as_float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0]) if abs(value) < 3.4e38 else value
