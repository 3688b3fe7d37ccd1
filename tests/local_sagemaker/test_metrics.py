"""Metric values out of log lines, and how often they are written down."""

from __future__ import annotations

import pytest

from local_sagemaker.jobs.metrics import MetricPatterns, MetricSeries, final_metrics


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("epoch=3 loss=0.25 loss=0.5", [("loss", 0.25), ("loss", 0.5)]),
        ("loss=1e-3", [("loss", 0.001)]),
        ("loss=...", []),
        ("no metric here", []),
    ],
)
def test_first_group_of_every_match_is_a_value(line: str, found: list[tuple[str, float]]) -> None:
    patterns = MetricPatterns([{"Name": "loss", "Regex": r"loss=([0-9.eE+-]+)"}])
    assert list(patterns.find(line)) == found


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
