"""The tables of CloudWatch's documentation about missing data, and what decides before a period has ended."""

from __future__ import annotations

from typing import Any

import pytest

from local_sagemaker.state.alarm_rule import AlarmRule, State
from local_sagemaker.state.metrics import Point
from local_sagemaker.state.statistics import Statistics

NOW = 1_000_020.0  # 40 s into a minute
MINUTE = 60
STATES: tuple[State, ...] = ("OK", "ALARM", "INSUFFICIENT_DATA")


def rule(**changes: Any) -> AlarmRule:
    """Sum of a metric above 1, three periods of a minute."""
    alarm = {
        "Namespace": "n", "MetricName": "m", "Statistic": "Sum", "Period": MINUTE, "EvaluationPeriods": 3,
        "ComparisonOperator": "GreaterThanThreshold", "Threshold": 1.0,
    }  # fmt: skip
    return AlarmRule.of(alarm | changes)


def point(start: float, *values: float) -> Point:
    statistics = Statistics()
    for value in values:
        statistics.add(value)
    return Point(int(start), "Count", statistics)


def points(picture: str) -> list[Point]:
    """`0 - X`: OK, missing and breaching minutes up to the last one that has ended."""
    minute = int(NOW) // MINUTE * MINUTE
    signs = picture.split()
    return [
        point(minute - MINUTE * (len(signs) - at), {"X": 2.0, "0": 0.0}[sign])
        for at, sign in enumerate(signs)
        if sign != "-"
    ]


@pytest.mark.parametrize(
    ("m", "picture", "missing", "ignore", "breaching", "not_breaching"),
    [
        (3, "0 - X - X", "OK", "OK", "OK", "OK"),
        (3, "- - - - 0", "OK", "OK", "OK", "OK"),
        (3, "- - - - -", "INSUFFICIENT_DATA", "current", "ALARM", "OK"),
        (3, "0 X X - X", "ALARM", "ALARM", "ALARM", "ALARM"),
        (3, "- - X - -", "ALARM", "current", "ALARM", "OK"),
        (2, "0 - X - X", "ALARM", "ALARM", "ALARM", "ALARM"),
        (2, "0 0 X 0 X", "ALARM", "ALARM", "ALARM", "ALARM"),
        (2, "0 - X - -", "OK", "OK", "ALARM", "OK"),
        (2, "- - - - 0", "OK", "OK", "ALARM", "OK"),
        (2, "- - - X -", "ALARM", "current", "ALARM", "OK"),
    ],
)
def test_missing_data_is_treated_as_the_tables_say(
    m: int, picture: str, missing: str, ignore: str, breaching: str, not_breaching: str
) -> None:
    treatments = {"missing": missing, "ignore": ignore, "breaching": breaching, "notBreaching": not_breaching}
    for treatment, expected in treatments.items():
        for current in STATES:
            verdict = rule(DatapointsToAlarm=m, TreatMissingData=treatment).judge(points(picture), NOW, current)
            assert verdict.state == (current if expected == "current" else expected), (treatment, current)


def test_breach_that_nothing_can_undo_counts_at_once() -> None:
    now = [point(int(NOW) // MINUTE * MINUTE, 1.0, 1.0)]
    assert rule(EvaluationPeriods=1).judge(now, NOW, "OK").state == "ALARM"
    assert rule(EvaluationPeriods=1, Statistic="Average", Threshold=0.5).judge(now, NOW, "OK").state != "ALARM"
    assert (
        rule(EvaluationPeriods=1, ComparisonOperator="LessThanThreshold", Threshold=9.0).judge(now, NOW, "OK").state
        != "ALARM"
    )
    negative = [point(int(NOW) // MINUTE * MINUTE, 5.0, -1.0)]
    assert rule(EvaluationPeriods=1).judge(negative, NOW, "OK").state != "ALARM"


@pytest.mark.parametrize(
    ("comparison", "breaching", "fine"),
    [
        ("GreaterThanThreshold", 1.1, 1.0),
        ("GreaterThanOrEqualToThreshold", 1.0, 0.9),
        ("LessThanThreshold", 0.9, 1.0),
        ("LessThanOrEqualToThreshold", 1.0, 1.1),
    ],
)
def test_comparisons_know_their_edge(comparison: str, breaching: float, fine: float) -> None:
    for value, state in ((breaching, "ALARM"), (fine, "OK")):
        minute = [point(int(NOW) // MINUTE * MINUTE - MINUTE, value)]
        assert rule(EvaluationPeriods=1, ComparisonOperator=comparison).judge(minute, NOW, "OK").state == state


def test_percentile_is_of_all_values() -> None:
    minute = [point(int(NOW) // MINUTE * MINUTE - MINUTE, *([1.0] * 98), 50.0, 60.0)]
    slow = {"Statistic": None, "EvaluationPeriods": 1, "Threshold": 40.0}
    assert rule(**slow, ExtendedStatistic="p99").judge(minute, NOW, "OK").state == "ALARM"
    assert rule(**slow, ExtendedStatistic="p98").judge(minute, NOW, "OK").state == "OK"


def test_percentile_of_few_samples_can_be_ignored() -> None:
    minute = [point(int(NOW) // MINUTE * MINUTE - MINUTE, *([50.0] * 999))]
    slow = {"Statistic": None, "ExtendedStatistic": "p99", "EvaluationPeriods": 1, "Threshold": 40.0}
    assert rule(**slow, EvaluateLowSampleCountPercentile="ignore").judge(minute, NOW, "OK").state == "OK"
    minute[0].statistics.add(50.0)
    assert rule(**slow, EvaluateLowSampleCountPercentile="ignore").judge(minute, NOW, "OK").state == "ALARM"


def test_reason_names_values_and_threshold() -> None:
    verdict = rule(DatapointsToAlarm=2).judge(points("0 X X"), NOW, "OK")
    assert verdict.reason.startswith("Threshold Crossed: 2 out of the last 3 datapoints [2.0 (")
    assert "were greater than the threshold (1.0) (minimum 2 datapoints for OK -> ALARM transition)" in verdict.reason
