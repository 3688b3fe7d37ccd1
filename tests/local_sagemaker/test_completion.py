"""When a search has learned enough."""

from __future__ import annotations

from typing import Any

import pytest

from local_sagemaker.tuning.completion import Progress
from local_sagemaker.tuning.early_stopping import MedianRule


def progress(values: list[float], *, maximize: bool = True, num_tunables: int = 1) -> Progress:
    return Progress.of([*enumerate(values)], maximize=maximize, num_tunables=num_tunables)


@pytest.mark.parametrize(
    ("values", "not_improving"),
    [
        ([], 0),
        ([1.0], 0),
        ([1.0, 1.02], 0),
        ([1.0, 1.005], 1),
        ([1.0, 1.005, 1.011], 0),  # small steps add up to one of 1 %
        ([1.0, 0.5, 0.9, 1.0], 3),
        ([-1.0, -0.995], 1),
        ([-1.0, -0.5], 0),
        ([0.0, 0.0001], 0),
        ([0.0, 0.0], 1),
    ],
)
def test_less_than_one_percent_is_no_improvement(values: list[float], not_improving: int) -> None:
    assert progress(values).not_improving == not_improving
    assert progress([-value for value in values], maximize=False).not_improving == not_improving


def test_convergence_is_ten_or_five_per_tunable_without_improvement() -> None:
    assert progress([1.0] * 10).converged_at is None
    assert progress([1.0] * 14).converged_at == 10  # when the eleventh ended
    assert progress([1.0] * 15, num_tunables=3).converged_at is None
    assert progress([1.0] * 16, num_tunables=3).converged_at == 15
    assert progress([*[1.0] * 14, 2.0]).converged_at is None


def test_details_tell_what_sagemaker_tells() -> None:
    assert progress([1.0, 1.0]).details() == {"NumberOfTrainingJobsObjectiveNotImproving": 1}
    assert progress([1.0] * 11).details() == {
        "NumberOfTrainingJobsObjectiveNotImproving": 10,
        "ConvergenceDetectedTime": 10,
    }


@pytest.mark.parametrize(
    ("criteria", "met"),
    [
        ({}, False),
        ({"TargetObjectiveMetricValue": 0.9}, True),
        ({"TargetObjectiveMetricValue": 1.1}, False),
        ({"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 10}}, True),
        ({"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 11}}, False),
        ({"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}}, True),
        ({"ConvergenceDetected": {"CompleteOnConvergence": "Disabled"}}, False),
    ],
)
def test_any_one_criterion_suffices(criteria: dict[str, Any], met: bool) -> None:
    assert progress([1.0] * 11).suffices(criteria, maximize=True) is met
    assert not progress([]).suffices(criteria, maximize=True)


def test_target_of_a_minimum_is_reached_from_above() -> None:
    criteria = {"TargetObjectiveMetricValue": 0.5}
    assert progress([0.9, 0.4], maximize=False).suffices(criteria, maximize=False)
    assert not progress([0.9, 0.6], maximize=False).suffices(criteria, maximize=False)


def test_median_rule_compares_with_running_averages_at_the_same_epoch() -> None:
    rule = MedianRule(maximize=True)
    assert not rule.is_hopeless([0.0])
    rule.add([1.0, 3.0, 5.0])  # running averages 1, 2, 3
    rule.add([2.0, 4.0])  # 2, 3
    assert rule.is_hopeless([1.4])
    assert not rule.is_hopeless([1.5])
    assert rule.is_hopeless([9.0, 2.4])  # the latest value counts, against the median of 2 and 3
    assert rule.is_hopeless([9.0, 9.0, 2.9])  # only the first job came that far
    assert not rule.is_hopeless([9.0, 9.0, 3.0])
    assert not rule.is_hopeless([0.0, 0.0, 0.0, 0.0])
    assert not rule.is_hopeless([])
