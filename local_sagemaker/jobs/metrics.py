"""Log lines and MetricDefinitions in, metric values out: pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from typing import Any


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
