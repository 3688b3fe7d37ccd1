"""The training job definitions of a tuning job: what each one tunes, and the training jobs it makes. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any

from local_sagemaker.tuning import ranges
from local_sagemaker.tuning.ranges import MAX_HYPERPARAMETERS, Range
from local_sagemaker.wire.errors import ApiError, validation

OBJECTIVE_HYPERPARAMETER = "_tuning_objective_metric"

#: SageMaker's quota of metrics per tuning job.
_MAX_METRICS = 20

#: The members of a definition that a CreateTrainingJob request has too.
_SHARED_MEMBERS = frozenset(
    {
        "AlgorithmSpecification",
        "RoleArn",
        "InputDataConfig",
        "VpcConfig",
        "OutputDataConfig",
        "ResourceConfig",
        "StoppingCondition",
        "EnableNetworkIsolation",
        "EnableInterContainerTrafficEncryption",
        "EnableManagedSpotTraining",
        "CheckpointConfig",
        "RetryStrategy",
        "Environment",
    }
)


@dataclasses.dataclass(frozen=True)
class Definition:
    """One HyperParameterTrainingJobDefinition, with its own ranges and its own metric."""

    name: str | None
    request: dict[str, Any]
    ranges: list[Range]
    metric: str
    """The objective's."""
    maximize: bool
    static: dict[str, str]
    """Those given, and those that Autotune keeps as they are."""

    def training_request(self, name: str, tuned: dict[str, str], tags: list[dict[str, str]]) -> dict[str, Any]:
        """CreateTrainingJob for one trial."""
        request = {key: value for key, value in self.request.items() if key in _SHARED_MEMBERS}
        request["ResourceConfig"] = resources(self.request)
        request["TrainingJobName"] = name
        request["HyperParameters"] = self.static | tuned | {OBJECTIVE_HYPERPARAMETER: self.metric}
        return request | ({"Tags": tags} if tags else {})


def parse_definitions(request: dict[str, Any]) -> list[Definition]:
    """The definitions of a CreateHyperParameterTuningJob request. Raises a ValidationException for what cannot work."""
    config = request["HyperParameterTuningJobConfig"]
    if ("TrainingJobDefinition" in request) == ("TrainingJobDefinitions" in request):
        raise validation("Give exactly one of TrainingJobDefinition and TrainingJobDefinitions.")
    autotune = "Autotune" in request
    if "TrainingJobDefinition" in request:
        given = request["TrainingJobDefinition"]
        for member in ("TuningObjective", "HyperParameterRanges"):
            if member in given:
                raise validation(
                    f"{member} belongs to TrainingJobDefinitions; with one TrainingJobDefinition give "
                    "ParameterRanges and HyperParameterTuningJobObjective in HyperParameterTuningJobConfig."
                )
        searched, objective = config.get("ParameterRanges"), config.get("HyperParameterTuningJobObjective")
        return [_definition(given, searched, objective, "HyperParameterTuningJobConfig", autotune)]
    for member in ("ParameterRanges", "HyperParameterTuningJobObjective"):
        if member in config:
            raise validation(f"With TrainingJobDefinitions, {member} belongs into each definition.")
    definitions = [
        _definition(
            given,
            given.get("HyperParameterRanges"),
            given.get("TuningObjective"),
            f"TrainingJobDefinitions.{index}",
            autotune,
        )
        for index, given in enumerate(request["TrainingJobDefinitions"], start=1)
    ]
    _check_together(definitions)
    return definitions


def described(job: dict[str, Any]) -> dict[str, Any]:
    """A tuning job as AWS shows it: SDK v2 attaches to nothing that lacks what AWS adds to the definitions."""
    if "TrainingJobDefinition" in job:
        objective = job["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
        return job | {"TrainingJobDefinition": _shown(job["TrainingJobDefinition"], objective)}
    shown = [_shown(given, given["TuningObjective"]) for given in job["TrainingJobDefinitions"]]
    return job | {"TrainingJobDefinitions": shown}


def resources(definition: dict[str, Any]) -> dict[str, Any]:
    """ResourceConfig of a definition's training jobs. Describe shows both members, and its answer may come back."""
    both_ways = [definition.get("ResourceConfig"), _flexible(definition.get("HyperParameterTuningResourceConfig"))]
    given = [config for config in both_ways if config is not None]
    if not given or given[0] != given[-1]:
        raise validation(
            "A training job definition needs exactly one of ResourceConfig and HyperParameterTuningResourceConfig."
        )
    return dict(given[0])


def _flexible(given: dict[str, Any] | None) -> dict[str, Any] | None:
    """The ResourceConfig that a HyperParameterTuningResourceConfig comes to.

    Of several InstanceConfigs the first is taken, as AllocationStrategy Prioritized says: capacity never lacks here.
    """
    if given is None:
        return None
    both = [name for name in ("InstanceType", "InstanceCount", "VolumeSizeInGB") if name in given]
    if "InstanceConfigs" in given and both:
        raise validation(f"HyperParameterTuningResourceConfig: {both[0]} cannot be given with InstanceConfigs.")
    chosen = given | given.get("InstanceConfigs", [{}])[0]
    members = ("InstanceType", "InstanceCount", "VolumeSizeInGB", "VolumeKmsKeyId")
    return {member: chosen[member] for member in members if member in chosen}


def _shown(given: dict[str, Any], objective: dict[str, str]) -> dict[str, Any]:
    static = given.get("StaticHyperParameters", {}) | {OBJECTIVE_HYPERPARAMETER: objective["MetricName"]}
    return given | {"StaticHyperParameters": static, "ResourceConfig": resources(given)}


def _definition(
    given: dict[str, Any],
    parameter_ranges: dict[str, Any] | None,
    objective: dict[str, str] | None,
    where: str,
    autotune: bool,
) -> Definition:
    if parameter_ranges is None or objective is None:
        raise validation(f"{where} needs the ranges to search and the objective.")
    if parameter_ranges.get("AutoParameters") and not autotune:
        raise validation('AutoParameters need Autotune {"Mode": "Enabled"}; without it, give ranges.')
    static, kept = _static(given), ranges.kept(parameter_ranges)
    if both := static.keys() & kept.keys():
        raise validation(f"Hyperparameters {', '.join(sorted(both))} are both static and among the AutoParameters.")
    definition = Definition(
        name=given.get("DefinitionName"),
        request=given,
        ranges=ranges.parse(parameter_ranges),
        metric=objective["MetricName"],
        maximize=objective["Type"] == "Maximize",
        static=static | kept,
    )
    _check(definition, where)
    return definition


def _static(given: dict[str, Any]) -> dict[str, str]:
    """Without the objective, which Describe adds and a client may send back."""
    static = given.get("StaticHyperParameters", {})
    return {name: value for name, value in static.items() if name != OBJECTIVE_HYPERPARAMETER}


def _check(definition: Definition, where: str) -> None:
    tuned = {item.name for item in definition.ranges}
    if not tuned:
        raise validation(f"{where}: there is no range; a tuning job needs at least one.")
    if both := tuned & set(definition.static):
        raise validation(f"Hyperparameters {', '.join(sorted(both))} are both static and tuned.")
    total = len(tuned) + len(definition.static) + 1
    if total > MAX_HYPERPARAMETERS:
        raise validation(
            f"{where}: {len(definition.static)} static and {len(tuned)} tuned hyperparameters and "
            f"{OBJECTIVE_HYPERPARAMETER} are {total}; a training job can have at most {MAX_HYPERPARAMETERS}."
        )
    metrics = {item["Name"] for item in definition.request["AlgorithmSpecification"].get("MetricDefinitions", [])}
    if definition.metric not in metrics:
        raise validation(
            "A metric is required for this hyperparameter tuning job objective. Provide a metric in the metric "
            f"definitions. The objective metric '{definition.metric}' has no MetricDefinition; defined are: "
            f"{', '.join(sorted(metrics)) or 'none'}."
        )
    if len(metrics) > _MAX_METRICS:
        raise ApiError(
            "ResourceLimitExceeded", f"{where}: {len(metrics)} metrics; a tuning job can define at most {_MAX_METRICS}."
        )
    resources(definition.request)


def _check_together(definitions: list[Definition]) -> None:
    names = [definition.name or "" for definition in definitions]
    if "" in names:
        raise validation("Each of TrainingJobDefinitions needs a DefinitionName.")
    if len(set(names)) < len(names):
        raise validation(f"DefinitionNames must be unique, got {', '.join(names)}.")
    if len({definition.maximize for definition in definitions}) > 1:
        raise validation("The TuningObjectives of all TrainingJobDefinitions must have the same Type.")
