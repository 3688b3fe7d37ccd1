"""What a CreateHyperParameterTuningJob request is taken to ask for, and what is refused before anything starts."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from local_sagemaker.tuning.plan import Plan
from local_sagemaker.tuning.ranges import Integer
from local_sagemaker.wire.errors import ApiError

GRID = {"CategoricalParameterRanges": [{"Name": "a", "Values": ["1", "2"]}, {"Name": "b", "Values": ["x", "y", "z"]}]}
LR = {"ContinuousParameterRanges": [{"Name": "lr", "MinValue": "0.001", "MaxValue": "0.1"}]}
OBJECTIVE = {"Type": "Maximize", "MetricName": "score"}


def definition(**members: Any) -> dict[str, Any]:
    return {
        "AlgorithmSpecification": {
            "TrainingImage": "image:1",
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "score", "Regex": "score=(.*)"}],
        },
        "RoleArn": "arn:aws:iam::000000000000:role/test",
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/jobs"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        "StaticHyperParameters": {"epochs": "9"},
    } | members


def request(**config: Any) -> dict[str, Any]:
    return {
        "HyperParameterTuningJobName": "tune",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": OBJECTIVE,
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": LR,
        }
        | config,
        "TrainingJobDefinition": definition(),
    }


def several(*definitions: dict[str, Any], jobs: int = 6) -> dict[str, Any]:
    result = request(ResourceLimits={"MaxNumberOfTrainingJobs": jobs, "MaxParallelTrainingJobs": 2})
    for member in ("HyperParameterTuningJobObjective", "ParameterRanges"):
        del result["HyperParameterTuningJobConfig"][member]
    del result["TrainingJobDefinition"]
    return result | {"TrainingJobDefinitions": list(definitions)}


def named(name: str, parameter_ranges: dict[str, Any] = LR, **members: Any) -> dict[str, Any]:
    return definition(DefinitionName=name, HyperParameterRanges=parameter_ranges, TuningObjective=OBJECTIVE) | members


def refused(asked: dict[str, Any], said: str, code: str = "ValidationException") -> None:
    with pytest.raises(ApiError, match=said) as error:
        Plan.of(asked)
    assert error.value.code == code


def only(jobs: int | None = None) -> dict[str, int]:
    return {"MaxParallelTrainingJobs": 1} | ({"MaxNumberOfTrainingJobs": jobs} if jobs else {})


def test_grid_counts_its_combinations_by_itself() -> None:
    assert Plan.of(request(Strategy="Grid", ParameterRanges=GRID, ResourceLimits=only())).max_jobs == 6
    assert Plan.of(request(Strategy="Grid", ParameterRanges=GRID, ResourceLimits=only(6))).max_jobs == 6
    refused(request(Strategy="Grid", ParameterRanges=GRID, ResourceLimits=only(5)), "the grid has 6 combinations")
    refused(request(Strategy="Grid", ResourceLimits=only()), "categorical ranges only; lr is none")


def test_number_of_jobs_is_needed_where_nothing_else_ends_the_search() -> None:
    refused(request(ResourceLimits=only()), "MaxNumberOfTrainingJobs is required for the strategy Bayesian")


def test_fewer_combinations_than_jobs_are_refused_in_sagemakers_words() -> None:
    refused(
        request(ParameterRanges=GRID, ResourceLimits=only(10)),
        r"The total number of hyperparameter combinations for the provided ranges \[6.0\] must be equal or greater "
        r"than the value of MaxNumberOfJobs, \[10\]",
    )


@pytest.mark.parametrize(
    ("strategy", "limits"),
    [
        ("Bayesian", {"MaxNumberOfTrainingJobs": 751, "MaxParallelTrainingJobs": 1}),
        ("Random", {"MaxNumberOfTrainingJobs": 10_001, "MaxParallelTrainingJobs": 1}),
        ("Random", {"MaxNumberOfTrainingJobs": 200, "MaxParallelTrainingJobs": 101}),
    ],
)
def test_quotas_are_sagemakers(strategy: str, limits: dict[str, int]) -> None:
    refused(request(Strategy=strategy, ResourceLimits=limits), "can have at most", "ResourceLimitExceeded")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (1, 9)),  # from the static hyperparameter epochs
        ({"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 2, "MaxResource": 20}}}, (2, 20)),
        ({"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 3}}}, (3, 9)),
    ],
)
def test_hyperband_finds_its_resources(config: dict[str, Any], expected: tuple[int, int]) -> None:
    plan = Plan.of(request(Strategy="Hyperband", **config))
    assert plan.max_resource == expected[1]
    assert all(rung >= expected[0] for bracket in plan.brackets for rung in bracket.rungs)


def test_hyperband_refuses_what_sagemaker_refuses() -> None:
    config = {"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 9}}}
    refused(request(Strategy="Hyperband", **config), "MinResource 9 must be less than MaxResource 9")
    refused(
        request(Strategy="Hyperband", TrainingJobEarlyStoppingType="Auto"), "must be Off for the strategy Hyperband"
    )
    refused(request(**config), "StrategyConfig is for the strategy Hyperband, not for Bayesian")
    without = request(Strategy="Hyperband")
    del without["TrainingJobDefinition"]["StaticHyperParameters"]
    refused(without, "or one of the static hyperparameters epochs, numepochs")


def test_autotune_fills_in_what_is_not_given() -> None:
    hints = {"AutoParameters": [{"Name": "batch", "ValueHint": "32"}]}
    asked = request(ParameterRanges=LR | hints, ResourceLimits=only()) | {"Autotune": {"Mode": "Enabled"}}
    plan = Plan.of(asked)
    assert plan.definitions[0].ranges[1] == Integer("batch", 8, 128, "Logarithmic")
    assert (plan.max_jobs, plan.early_stopping) == (20, True)
    assert plan.criteria == {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}}
    asked["HyperParameterTuningJobConfig"] |= {"TrainingJobEarlyStoppingType": "Off", "ResourceLimits": only(3)}
    assert (Plan.of(asked).max_jobs, Plan.of(asked).early_stopping) == (3, False)
    refused(request(ParameterRanges=LR | hints), "AutoParameters need Autotune")


def test_autotune_keeps_what_has_no_neighbourhood() -> None:
    """All that SDK v2's PyTorch estimator has comes as AutoParameters, the toolkit's own hyperparameters too."""
    own = {"sagemaker_program": '"train.py"', "sagemaker_container_log_level": "20", "optimizer": '"adam"'}
    hints = [{"Name": name, "ValueHint": hint} for name, hint in (own | {"batch": "32"}).items()]
    asked = request(ParameterRanges={"AutoParameters": hints}) | {"Autotune": {"Mode": "Enabled"}}
    (found,) = Plan.of(asked).definitions
    assert [item.name for item in found.ranges] == ["batch"]
    assert found.training_request("job", {"batch": "8"}, [])["HyperParameters"].items() >= own.items()
    asked["TrainingJobDefinition"]["StaticHyperParameters"] = {"optimizer": "sgd"}
    refused(asked, "optimizer are both static and among the AutoParameters")


def test_definitions_take_turns_and_skip_what_is_exhausted() -> None:
    two = {"CategoricalParameterRanges": [{"Name": "a", "Values": ["1", "2"]}]}
    plan = Plan.of(several(named("small", two), named("large")))
    assert plan.places(6) == [(0, 0), (1, 0), (0, 1), (1, 1), (1, 2), (1, 3)]


def test_definitions_are_refused_where_they_contradict() -> None:
    other = named("b", TuningObjective=OBJECTIVE | {"Type": "Minimize"})
    refused(several(named("a"), other), "must have the same Type")
    refused(several(named("a"), named("a")), "DefinitionNames must be unique, got a, a")
    refused(several(named("a"), definition(HyperParameterRanges=LR, TuningObjective=OBJECTIVE)), "needs a Definition")
    refused(several(named("a"), definition(DefinitionName="b")), "TrainingJobDefinitions.2 needs the ranges")
    both = several(named("a"))
    both["HyperParameterTuningJobConfig"]["ParameterRanges"] = LR
    refused(both, "ParameterRanges belongs into each definition")
    refused(request() | {"TrainingJobDefinitions": [named("a")]}, "exactly one of TrainingJobDefinition and")


def test_hyperparameters_are_bounded_and_not_both_static_and_tuned() -> None:
    asked = request()
    asked["TrainingJobDefinition"]["StaticHyperParameters"] = {"lr": "1"}
    refused(asked, "lr are both static and tuned")
    asked["TrainingJobDefinition"]["StaticHyperParameters"] = {f"p{index}": "1" for index in range(99)}
    refused(asked, "are 101; a training job can have at most 100")
    asked["TrainingJobDefinition"]["StaticHyperParameters"] = {f"p{index}": "1" for index in range(98)} | {
        "_tuning_objective_metric": "score"
    }
    assert len(Plan.of(asked).definitions[0].static) == 98
    refused(request(ParameterRanges={}), "there is no range")


def test_objective_needs_a_metric_definition() -> None:
    config = {"HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "accuracy"}}
    refused(request(**config), "A metric is required .* 'accuracy' has no MetricDefinition; defined are: score")


def test_tuning_resources_stand_in_for_resource_config() -> None:
    machines = [
        {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 5},
        {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 5},
    ]
    asked = request()
    given = asked["TrainingJobDefinition"]
    del given["ResourceConfig"]
    refused(copy.deepcopy(asked), "exactly one of ResourceConfig and HyperParameterTuningResourceConfig")
    given["HyperParameterTuningResourceConfig"] = {"AllocationStrategy": "Prioritized", "InstanceConfigs": machines}
    made = Plan.of(asked).definitions[0].training_request("tune-001-0000", {"lr": "0.1"}, [])
    assert made["ResourceConfig"] == machines[0]
    assert "HyperParameterTuningResourceConfig" not in made
