"""Warm start: which parents a tuning job may have, and what it learns from their training jobs. Pure.

SageMaker's documented restrictions: parents have ended; the same objective metric; the same set of static and tuned
hyperparameter names, a tuned one with the type it had; at most 10 changes from tuned to static or of static values.
IdenticalDataAndAlgorithm moreover keeps the input data and the algorithm: that the data sources and the image (not its
tag, for a newer version may only log more) are compared is our reading, for AWS says what must be, not what it checks.
Of a parent's own parents nothing is used: warm start is not recursive there either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from local_sagemaker.tuning.definition import Definition
from local_sagemaker.tuning.plan import Plan
from local_sagemaker.tuning.ranges import Categorical, Range
from local_sagemaker.wire.errors import validation

IDENTICAL = "IdenticalDataAndAlgorithm"

_MAX_CHANGES = 10

#: What SageMaker lets a warm start change in a TrainingJobDefinition, in its own spelling and order.
_CHANGEABLE = (
    "algorithmSpecification",
    "inputDataConfig",
    "outputDataConfig",
    "staticHyperParameters",
    "roleArn",
    "resourceConfig",
    "stoppingCondition",
    "vpcConfig",
    "enableManagedSpotTraining",
    "checkpointConfig",
)


def parents(request: dict[str, Any]) -> list[str]:
    """The names of the parents a request gives, in its order. Raises a ValidationException for one without a name."""
    given = request.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", [])
    if any("HyperParameterTuningJobName" not in parent for parent in given):
        raise validation("ParentHyperParameterTuningJobs: each must have a HyperParameterTuningJobName.")
    return [parent["HyperParameterTuningJobName"] for parent in given]


def check(request: dict[str, Any], plan: Plan, name: str, parent: dict[str, Any], status: str) -> None:
    """Whether the tuning job `name`, as its Describe response tells it, may be a parent. Raises ValidationException."""
    if status not in ("Completed", "Stopped", "Failed"):
        raise validation(f"The parent tuning job {name} is {status}; a parent must have ended.")
    if plan.strategy in ("Grid", "Hyperband"):
        raise validation(f"The strategy {plan.strategy} cannot be warm started; choose Bayesian or Random.")
    if len(plan.definitions) > 1 or "TrainingJobDefinitions" in parent:
        raise validation(
            f"Several TrainingJobDefinitions and warm start (parent tuning job {name}) cannot be combined: SageMaker "
            "does not document how."
        )
    own, theirs = plan.definitions[0], Plan.of(parent).definitions[0]
    if (own.metric, own.maximize) != (theirs.metric, theirs.maximize):
        raise validation(
            f"The objective metric must be that of the parent tuning job {name}: {theirs.metric} "
            f"({'Maximize' if theirs.maximize else 'Minimize'}), got {own.metric} "
            f"({'Maximize' if own.maximize else 'Minimize'})."
        )
    _check_hyperparameters(own, theirs, name)
    _check_unchanged(own.request, theirs.request, name)
    if request["WarmStartConfig"]["WarmStartType"] == IDENTICAL:
        _check_identical(own.request, theirs.request, name)


def usable(ranges: Sequence[Range], hyperparameters: dict[str, str]) -> dict[str, str] | None:
    """A parent's training job's hyperparameters as far as these ranges tune them; None when they lie outside."""
    chosen = {item.name: hyperparameters.get(item.name, "") for item in ranges}
    return chosen if all(item.holds(chosen[item.name]) for item in ranges) else None


def _check_hyperparameters(own: Definition, theirs: Definition, name: str) -> None:
    tuned = {item.name: item for item in own.ranges}
    before = {item.name: item for item in theirs.ranges}
    if different := ({*tuned, *own.static} ^ {*before, *theirs.static}):
        raise validation(
            "The set of tunable plus static HyperParameter names is not the same across current and parent tuning "
            "jobs. Please ensure this set is constant when warm starting. Note that previously static HyperParameters "
            f"can be tuned in warm start jobs and vice versa. Not in both this job and {name}: "
            f"{', '.join(sorted(different))}."
        )
    for item in own.ranges:
        if type(before.get(item.name, item)) is not type(item):
            raise validation(
                f"Range '{item.name}': the type must not change in a warm start; in the parent tuning job {name} it is "
                f"{type(before[item.name]).__name__}."
            )
    changes = sum(_weight(before[key]) for key in before if key not in tuned)
    changes += sum(theirs.static.get(key, value) != value for key, value in own.static.items())
    if changes > _MAX_CHANGES:
        raise validation(
            f"A warm start may make at most {_MAX_CHANGES} changes from tuned to static hyperparameters and of static "
            f"values (a categorical one counts with each of its values); against the parent tuning job {name} there "
            f"are {changes}."
        )


def _weight(item: Range) -> int:
    return len(item.values) if isinstance(item, Categorical) else 1


def _check_unchanged(own: dict[str, Any], theirs: dict[str, Any], name: str) -> None:
    allowed = {member[0].upper() + member[1:] for member in _CHANGEABLE} | {"HyperParameterTuningResourceConfig"}
    changed = [key for key in {**own, **theirs} if key not in allowed and own.get(key) != theirs.get(key)]
    if changed:
        raise validation(
            f"Only the following fields in TrainingJobDefinition are allowed to change: [{', '.join(_CHANGEABLE)}]. "
            f"Against the parent tuning job {name} there is another {', '.join(sorted(changed))}."
        )


def _check_identical(own: dict[str, Any], theirs: dict[str, Any], name: str) -> None:
    def data(definition: dict[str, Any]) -> dict[str, Any]:
        return {channel["ChannelName"]: channel["DataSource"] for channel in definition.get("InputDataConfig", [])}

    def algorithm(definition: dict[str, Any]) -> str:
        specification = definition["AlgorithmSpecification"]
        return str(specification.get("AlgorithmName") or specification.get("TrainingImage", "")).split(":")[0]

    for what, same in (("input data", data(own) == data(theirs)), ("algorithm", algorithm(own) == algorithm(theirs))):
        if not same:
            raise validation(
                f"WarmStartType {IDENTICAL} needs the {what} of the parent tuning job {name}; with another one, use "
                "TransferLearning."
            )
