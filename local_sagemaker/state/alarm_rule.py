"""When a CloudWatch metric alarm is in ALARM: its configuration and the data of its metric → a state and the reason.

The rules are those of docs.aws.amazon.com, "Configuring how CloudWatch alarms treat missing data" and "Alarm
evaluation"; the tests hold its tables. Two things differ, both to the good of whoever waits: a period that has not
ended counts as soon as nothing that may still come can undo its breach (a Sum above its threshold), and CloudWatch's
extra range for late data is taken to be two periods, as in the tables, whatever the period's length.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from local_sagemaker.state.metrics import Metric, Point
from local_sagemaker.state.statistics import Statistics, merged

State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]

_EXTRA_PERIODS = 2
_MAX_REASON = 1023
_MAX_SHOWN = 20

_BREACHES: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}
_WORDS = {
    "GreaterThanOrEqualToThreshold": "greater than or equal to",
    "GreaterThanThreshold": "greater than",
    "LessThanThreshold": "less than",
    "LessThanOrEqualToThreshold": "less than or equal to",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Datapoint:
    start: int
    value: float
    breaching: bool
    enough_samples: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    state: State
    reason: str
    data: str
    """StateReasonData: JSON."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlarmRule:
    metric: Metric
    statistic: str
    unit: str | None
    period_s: int
    evaluation_periods: int
    datapoints_to_alarm: int
    comparison: str
    threshold: float
    missing: str
    """TreatMissingData: breaching, notBreaching, ignore or missing."""
    ignore_small_samples: bool
    """EvaluateLowSampleCountPercentile=ignore."""

    @classmethod
    def of(cls, alarm: Mapping[str, Any]) -> AlarmRule:
        """From a MetricAlarm as DescribeAlarms shows it."""
        dimensions = {item["Name"]: item["Value"] for item in alarm.get("Dimensions", [])}
        return cls(
            metric=Metric.of(alarm["Namespace"], alarm["MetricName"], dimensions),
            statistic=alarm.get("Statistic") or alarm["ExtendedStatistic"],
            unit=alarm.get("Unit"),
            period_s=alarm["Period"],
            evaluation_periods=alarm["EvaluationPeriods"],
            datapoints_to_alarm=alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"]),
            comparison=alarm["ComparisonOperator"],
            threshold=alarm["Threshold"],
            missing=alarm.get("TreatMissingData", "missing"),
            ignore_small_samples=alarm.get("EvaluateLowSampleCountPercentile") == "ignore",
        )

    def range_start(self, now: float) -> float:
        """The earliest data that `judge` looks at, in epoch seconds."""
        return self._period(now) - (self.evaluation_periods + _EXTRA_PERIODS) * self.period_s

    def next_due(self, now: float) -> float:
        """When the current period ends: time alone may change the state then."""
        return self._period(now) + self.period_s

    def judge(self, points: list[Point], now: float, current: State) -> Verdict:
        """`points` are the metric's by period since `range_start`, oldest first; any order of units."""
        seen = self._datapoints(points, now)
        recent = seen[-self.evaluation_periods :]
        state = self._state(recent, now, current)
        return Verdict(state=state, reason=self._reason(recent, state)[:_MAX_REASON], data=self._data(recent, now))

    def _state(self, recent: list[Datapoint], now: float, current: State) -> State:
        missing = self.evaluation_periods - len(recent)
        if recent and not recent[-1].enough_samples:
            return current
        breaching = sum(point.breaching for point in recent)
        if missing and self.missing == "breaching":
            breaching += missing
        if breaching >= self.datapoints_to_alarm:
            return "ALARM"
        if missing and self.missing in {"ignore", "missing"} and breaching == len(recent):
            return current if self.missing == "ignore" else self._state_of_breaches(recent, now, current)
        return "OK"

    def _state_of_breaches(self, recent: list[Datapoint], now: float, current: State) -> State:
        """Too few data for a decision, and all breach: ALARM once the oldest is old enough to have had M successors."""
        if not recent:
            return "INSUFFICIENT_DATA"
        age = (self._period(now) - recent[0].start) // self.period_s
        return "ALARM" if age >= self.datapoints_to_alarm else current

    def _datapoints(self, points: list[Point], now: float) -> list[Datapoint]:
        current = self._period(now)
        periods: dict[int, list[Statistics]] = {}
        for point in points:
            if self.unit is None or point.unit == self.unit:
                periods.setdefault(point.start, []).append(point.statistics)
        found = []
        for start, parts in sorted(periods.items()):
            statistics = merged(parts)
            value = statistics.statistic(self.statistic)
            if value is None or start > current:
                continue
            breaching = _BREACHES[self.comparison](value, self.threshold)
            if start == current and not (breaching and self._only_grows(statistics)):
                continue
            enough = not self.ignore_small_samples or statistics.count >= self._needed_samples()
            found.append(Datapoint(start=start, value=value, breaching=breaching, enough_samples=enough))
        return found

    def _only_grows(self, statistics: Statistics) -> bool:
        """Whether more data like these can only move the statistic further beyond the threshold."""
        if self.comparison.startswith("Less"):
            return self.statistic == "Minimum"
        return self.statistic in {"SampleCount", "Maximum"} or (self.statistic == "Sum" and statistics.minimum >= 0)

    def _needed_samples(self) -> float:
        """CloudWatch's bound of a percentile's worth: ten samples beyond it, on the nearer side."""
        if not self.statistic.startswith("p"):
            return 0
        share = float(self.statistic[1:]) / 100
        return 10 / max(min(share, 1 - share), 1e-9)

    def _period(self, moment: float) -> int:
        return int(moment) - int(moment) % self.period_s

    def _reason(self, recent: list[Datapoint], state: State) -> str:
        n, m = self.evaluation_periods, self.datapoints_to_alarm
        if state == "INSUFFICIENT_DATA":
            return f"Insufficient Data: {n} datapoint{' was' if n == 1 else 's were'} unknown."
        alarming = state == "ALARM"
        shown = [point for point in recent if point.breaching == alarming]
        if not shown:
            treated = self.missing[:1].upper() + self.missing[1:]
            return (
                f"Threshold Crossed: no datapoints were received for {n} period{'s' * (n > 1)} and "
                f"{n} missing datapoint{' was' if n == 1 else 's were'} treated as [{treated}]."
            )
        values = ", ".join(f"{point.value} ({_clock(point.start)})" for point in reversed(shown))
        was = ("was" if len(shown) == 1 else "were") + ("" if alarming else " not")
        return (
            f"Threshold Crossed: {len(shown)} out of the last {n} datapoints [{values}] {was} "
            f"{_WORDS[self.comparison]} the threshold ({self.threshold}) (minimum {m} datapoint{'s' * (m > 1)} "
            f"for {'OK -> ALARM' if alarming else 'ALARM -> OK'} transition)."
        )

    def _data(self, recent: list[Datapoint], now: float) -> str:
        recent = recent[-_MAX_SHOWN:]
        return json.dumps(
            {
                "version": "1.0",
                "queryDate": _iso(now),
                "statistic": self.statistic,
                "period": self.period_s,
                "recentDatapoints": [point.value for point in recent],
                "threshold": self.threshold,
                "evaluatedDatapoints": [
                    {"timestamp": _iso(point.start), "value": point.value} for point in reversed(recent)
                ],
            }
        )


def is_comparison(name: str) -> bool:
    return name in _BREACHES


def _clock(moment: float) -> str:
    return f"{datetime.datetime.fromtimestamp(moment, datetime.UTC):%d/%m/%y %H:%M:%S}"


def _iso(moment: float) -> str:
    return f"{datetime.datetime.fromtimestamp(moment, datetime.UTC):%Y-%m-%dT%H:%M:%S.000+0000}"
