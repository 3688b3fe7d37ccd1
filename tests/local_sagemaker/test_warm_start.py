"""Warm start: which parents are accepted, and the best over all of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import botocore.exceptions
import pytest

from local_sagemaker.tuning import ranges, warm_start
from local_sagemaker.tuning.plan import Plan
from local_sagemaker.wire.errors import ApiError
from tests.local_sagemaker.harness import Server
from tests.local_sagemaker.test_tuning_plan import GRID, LR, request
from tests.local_sagemaker.tuning import children, describe, limits, run, tuning_request

Change = Callable[[dict[str, Any], dict[str, Any]], Any]
"""(config, definition) of the new tuning job, changed in place."""


def parents(kind: str, *names: str) -> dict[str, Any]:
    return {
        "WarmStartType": kind,
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": name} for name in names],
    }


def check(change: Change, kind: str = "TransferLearning", status: str = "Completed") -> None:
    parent = request(ParameterRanges=LR | GRID)
    asked = copy.deepcopy(parent) | {"WarmStartConfig": parents(kind, "last-week")}
    change(asked["HyperParameterTuningJobConfig"], asked["TrainingJobDefinition"])
    warm_start.check(asked, Plan.of(asked), "last-week", parent, status)


def static(definition: dict[str, Any], **values: str) -> None:
    definition["StaticHyperParameters"] = definition["StaticHyperParameters"] | values


@pytest.mark.parametrize(
    "change",
    [
        lambda config, definition: None,
        lambda config, definition: config.update(ResourceLimits=limits(6)),
        lambda config, definition: definition.update(StoppingCondition={"MaxRuntimeInSeconds": 5}),
        lambda config, definition: static(definition, epochs="3"),
        lambda config, definition: (config.update(ParameterRanges=GRID), static(definition, lr="0.1")),
        lambda config, definition: (config.update(ParameterRanges=LR), static(definition, a="1", b="x")),
    ],
)
@pytest.mark.parametrize("kind", ["TransferLearning", "IdenticalDataAndAlgorithm"])
def test_documented_changes_are_possible(change: Change, kind: str) -> None:
    check(change, kind)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda config, definition: static(definition, more="1"),
            "The set of tunable plus static HyperParameter names is not the same .* last-week: more",
        ),
        (
            lambda config, definition: config.update(
                ParameterRanges={"IntegerParameterRanges": [{"Name": "lr", "MinValue": "1", "MaxValue": "9"}]} | GRID
            ),
            "the type must not change .* last-week it is Continuous",
        ),
        (
            lambda config, definition: config.update(
                HyperParameterTuningJobObjective={"Type": "Minimize", "MetricName": "score"}
            ),
            r"must be that of the parent tuning job last-week: score \(Maximize\), got score \(Minimize\)",
        ),
        (
            lambda config, definition: definition.update(Environment={"A": "1"}),
            "Only the following fields in TrainingJobDefinition are allowed to change: .* another Environment",
        ),
        (lambda config, definition: config.update(Strategy="Hyperband"), "cannot be warm started"),
    ],
)
def test_other_changes_are_refused(change: Change, said: str) -> None:
    with pytest.raises(ApiError, match=said):
        check(change)


def test_identical_algorithm_keeps_its_image_but_for_the_tag() -> None:
    def image(uri: str) -> Change:
        return lambda config, definition: definition["AlgorithmSpecification"].update(TrainingImage=uri)

    check(image("image:2"), "IdenticalDataAndAlgorithm")
    check(image("other:1"), "TransferLearning")
    with pytest.raises(ApiError, match="needs the algorithm of the parent tuning job last-week"):
        check(image("other:1"), "IdenticalDataAndAlgorithm")


def test_changes_of_static_values_are_bounded() -> None:
    parent = request()
    parent["TrainingJobDefinition"]["StaticHyperParameters"] = {f"p{index}": "old" for index in range(11)}
    asked = copy.deepcopy(parent) | {"WarmStartConfig": parents("TransferLearning", "last-week")}
    asked["TrainingJobDefinition"]["StaticHyperParameters"] = {f"p{index}": "new" for index in range(11)}
    with pytest.raises(ApiError, match=r"at most 10 changes .* there are 11"):
        warm_start.check(asked, Plan.of(asked), "last-week", parent, "Completed")


def test_parent_must_have_ended() -> None:
    with pytest.raises(ApiError, match="last-week is InProgress; a parent must have ended"):
        check(lambda config, definition: None, status="InProgress")


def test_warm_start_takes_only_what_fits_the_new_ranges() -> None:
    item = {"Name": "n", "MinValue": "1", "MaxValue": "5"}
    space = ranges.parse({"IntegerParameterRanges": [item]})
    assert warm_start.usable(space, {"n": "3", "other": "1"}) == {"n": "3"}
    assert warm_start.usable(space, {"n": "9"}) is None
    assert warm_start.usable(space, {}) is None


def test_missing_parent_is_named(server: Server) -> None:
    asked = tuning_request(server, "warm-orphan") | {"WarmStartConfig": parents("TransferLearning", "nobody")}
    with pytest.raises(botocore.exceptions.ClientError, match="can't find a tuning job called nobody"):
        server.sagemaker.create_hyper_parameter_tuning_job(**asked)
    with pytest.raises(botocore.exceptions.ClientError, match="warm-orphan"):
        describe(server, "warm-orphan")


def test_child_learns_from_its_parent_and_tells_the_best_of_both(server: Server) -> None:
    """With eight results of the parent the child's two jobs are no random draws: both come near the optimum at 0.3."""
    first = tuning_request(server, "warm-parent", ResourceLimits=limits(8, 4))
    parent = run(server, first)
    second = copy.deepcopy(first) | {
        "HyperParameterTuningJobName": "warm-child",
        "WarmStartConfig": parents("IdenticalDataAndAlgorithm", "warm-parent"),
    }
    second["HyperParameterTuningJobConfig"]["ResourceLimits"] = limits(2, 1)
    child = run(server, second)
    values = [job["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for job in children(server, "warm-child")]
    best = max([parent["BestTrainingJob"], child["BestTrainingJob"]], key=objective)
    overall = child["OverallBestTrainingJob"]
    assert min(values) > 0.9
    assert overall["TrainingJobName"] == best["TrainingJobName"]
    assert overall["TuningJobName"] == best["TrainingJobName"].rsplit("-", 2)[0]
    assert "OverallBestTrainingJob" not in parent


def objective(job: dict[str, Any]) -> float:
    return job["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
