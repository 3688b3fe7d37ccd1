"""Metric values out of log lines, and how often they are written down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local_sagemaker.jobs import metrics
from local_sagemaker.jobs.metrics import MetricPatterns, MetricSeries, final_metrics
from local_sagemaker.sandbox.patterns import PatternProcesses


@pytest.fixture(scope="module")
def processes() -> Iterator[PatternProcesses]:
    with PatternProcesses(cpu_s=0.3) as running:
        yield running


def definitions(*regexes: str) -> list[dict[str, str]]:
    return [{"Name": f"m{number}", "Regex": regex} for number, regex in enumerate(regexes)]


@pytest.mark.parametrize(
    ("regex", "line", "values"),
    [
        (r"loss=([0-9.eE+-]+)", "epoch=3 loss=0.25 loss=0.5", [0.25, 0.5]),
        (r"loss=([0-9.eE+-]+)", "loss=1e-3", [0.001]),
        (r"loss=([0-9.eE+-]+)", "loss=...", []),
        (r"loss=([0-9.eE+-]+)", "no metric here", []),
        (r"acc (?:([0-9.]+)|none)", "acc none acc 0.25", [0.25]),  # the group takes no part in the first match
        (r"'loss': ([0-9]+(.|e\-)[0-9]+)", "'loss': 1.5e-05", [1.5]),
        (r"cat=(.*?);", "cat=dog; cat=7;", [7.0]),
        (r"n=(\S+)", "n=1_000 n=9", [9.0]),
        (r"[0-9]+", "a 12 b", [12.0]),
        (r"()", "empty", []),
        (r"n=(\S+)", "n=" + "9" * 400, [float("inf")]),
    ],
)
def test_first_group_that_is_a_number_is_a_value(
    processes: PatternProcesses, regex: str, line: str, values: list[float]
) -> None:
    found = MetricPatterns(processes, definitions(regex)).find([line])
    assert [one.value for one in found] == values


def test_values_tell_their_line_and_name(processes: PatternProcesses) -> None:
    found = MetricPatterns(processes, definitions("a=([0-9])", "b=([0-9])")).find(["a=1", "", "b=2 a=3"])
    assert found == [(0, "m0", 1.0), (2, "m0", 3.0), (2, "m1", 2.0)]


def test_parts_of_a_progress_bar_are_lines_of_their_own(processes: PatternProcesses) -> None:
    found = MetricPatterns(processes, definitions(".*loss ([0-9.]+).*")).find(["\r 1% loss 0.5\r 2% loss 0.25\r"])
    assert [one.value for one in found] == [0.5, 0.25]


def test_pattern_that_overruns_is_given_up_alone(processes: PatternProcesses) -> None:
    patterns = MetricPatterns(processes, definitions("a=([0-9])", "(b+)+$", "c=([0-9])"))
    assert [one.name for one in patterns.find(["a=1 c=2 " + "b" * 60 + "!"])] == ["m0", "m2"]
    assert patterns.overran == {1}
    assert [one.name for one in patterns.find(["a=1"])] == ["m0"]


def test_pattern_that_is_slow_all_along_is_given_up(
    processes: PatternProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time within its limit; but a job has a long log, and whoever stops it waits for all of that."""
    monkeypatch.setattr(metrics, "JOB_CPU_S", 0.5)
    patterns = MetricPatterns(processes, definitions("a=([0-9])", "x+y|z", "x+y|w"))
    lines = ["x" * 300] * 200 + ["a=1"]
    for _ in range(60):
        assert [one.name for one in patterns.find(lines)] == ["m0"]
    assert patterns.overran == {1, 2}


def test_metric_that_ends_in_no_number_is_no_final_metric() -> None:
    series = {"nan": [[1.0, 0.5], [2.0, float("nan")]], "inf": [[1.0, float("inf")]], "well": [[1.0, 0.5]]}
    assert [metric["MetricName"] for metric in final_metrics(series)] == ["well"]


def test_final_value_is_the_last_one_in_float32() -> None:
    (metric,) = final_metrics({"loss": [[1.0, 0.5], [2.0, 1.19876]]})
    assert metric == {"MetricName": "loss", "Value": 1.1987600326538086, "Timestamp": 2.0}


def test_series_is_written_when_it_has_changed_and_at_the_end() -> None:
    series, written = MetricSeries(), []
    series.write(lambda points: written.append(len(points["loss"])), now=True)
    for value in (1.0, 2.0, 3.0):
        series.add("loss", 0.0, value)
        series.write(lambda points: written.append(len(points["loss"])))
    assert written == [1]  # the next ones come too soon
    series.write(lambda points: written.append(len(points["loss"])), now=True)
    assert written == [1, 3]


def test_endless_series_keeps_the_newest() -> None:
    series = MetricSeries()
    for step in range(50_000):
        series.add("loss", 0.0, step)
    points = series.points["loss"]
    assert 10_000 <= len(points) <= 20_000
    assert points[-1] == [0.0, 49_999]
