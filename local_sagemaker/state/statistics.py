"""What is known of a metric in one stretch of time, and the statistics that CloudWatch computes from it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable
from typing import Self

SIMPLE = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")

LARGEST = 2.0**360

#: Distinct values kept exactly; beyond it values are kept to three significant digits, which bounds the memory.
_EXACT_VALUES = 200

_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100)")


@dataclasses.dataclass(slots=True)
class Statistics:
    count: float = 0.0
    total: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    values: dict[float, float] | None = dataclasses.field(default_factory=dict)
    """Value → how often it was seen, for percentiles; None once a statistic set without its values was added."""

    @classmethod
    def of_set(cls, count: float, total: float, minimum: float, maximum: float) -> Self:
        """A StatisticSet. Only one whose values are all equal has percentiles, as on AWS."""
        values = {minimum: count} if minimum == maximum else None
        return cls(count, total, minimum, maximum, values)

    def add(self, value: float, count: float = 1.0) -> None:
        self.count += count
        self.total += value * count
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)
        if self.values is not None:
            if len(self.values) >= _EXACT_VALUES:
                value = float(f"{value:.3g}")
            self.values[value] = self.values.get(value, 0.0) + count

    def merge(self, other: Self) -> None:
        self.count += other.count
        self.total += other.total
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        if self.values is None or other.values is None:
            self.values = None
            return
        rounded = len(self.values) + len(other.values) > _EXACT_VALUES
        for value, count in other.values.items():
            key = float(f"{value:.3g}") if rounded else value
            self.values[key] = self.values.get(key, 0.0) + count

    def statistic(self, name: str) -> float | None:
        """`Average`, `Sum`, …, `p99.9`; None for a percentile that is not known, and for a sum that no number can hold.

        The name has been `check`ed.
        """
        found = self._statistic(name)
        return found if found is not None and math.isfinite(found) else None

    def _statistic(self, name: str) -> float | None:
        match name:
            case "SampleCount":
                return self.count
            case "Average":
                return self.total / self.count
            case "Sum":
                return self.total
            case "Minimum":
                return self.minimum
            case "Maximum":
                return self.maximum
            case _:
                return self._percentile(float(name[1:]))

    def to_json(self) -> str:
        values = None if self.values is None else list(self.values.items())
        return json.dumps([self.count, self.total, self.minimum, self.maximum, values], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        count, total, minimum, maximum, values = json.loads(text)
        return cls(count, total, minimum, maximum, None if values is None else {value: n for value, n in values})

    def _percentile(self, percent: float) -> float | None:
        """The smallest value that at least `percent` of the samples do not exceed."""
        if not self.values:
            return None
        rank = self.count * percent / 100
        seen = 0.0
        for value, count in sorted(self.values.items()):
            seen += count
            if seen >= rank - 1e-9:
                return value
        return self.maximum


def is_storable(value: float) -> bool:
    """CloudWatch takes no NaN, no infinities, and nothing beyond ±LARGEST."""
    return abs(value) <= LARGEST


def is_statistic(name: str) -> bool:
    return name in SIMPLE or _PERCENTILE.fullmatch(name) is not None


def merged(parts: Iterable[Statistics]) -> Statistics:
    result = Statistics()
    for part in parts:
        result.merge(part)
    return result
