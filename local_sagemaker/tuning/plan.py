"""What a CreateHyperParameterTuningJob request asks for, with Autotune's choices filled in. Pure.

What SageMaker itself says to a mistake is quoted where it has been seen; else the message is ours and names the member.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from local_sagemaker.tuning import hyperband
from local_sagemaker.tuning.definition import Definition, parse_definitions
from local_sagemaker.tuning.ranges import Categorical, combinations
from local_sagemaker.wire.errors import ApiError, validation

#: SageMaker's quotas per tuning job, as far as AWS raises them on request: jobs in all, and at once.
_MAX_JOBS = {"Random": 10_000}
_MAX_JOBS_OTHERS = 750
_MAX_PARALLEL = 100

#: Where SageMaker looks for MaxResource when HyperbandStrategyConfig does not give it.
_EPOCHS = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")

#: Autotune without MaxNumberOfTrainingJobs: this many per tuned hyperparameter. SageMaker does not say how many.
_AUTOTUNE_JOBS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    definitions: list[Definition]
    strategy: str
    maximize: bool
    max_jobs: int
    max_parallel: int
    max_runtime_s: float
    early_stopping: bool
    criteria: dict[str, Any]
    """TuningJobCompletionCriteria."""
    max_resource: int
    """Hyperband's MaxResource; 0 for another strategy."""
    brackets: list[hyperband.Bracket]
    """Hyperband's; empty for another strategy."""

    @classmethod
    def of(cls, request: dict[str, Any]) -> Plan:
        """Raises a ValidationException, or ResourceLimitExceeded, for what SageMaker would not start."""
        config = request["HyperParameterTuningJobConfig"]
        limits = config["ResourceLimits"]
        definitions = parse_definitions(request)
        minimum, maximum = _resources(config, definitions)
        plan = cls(
            definitions=definitions,
            strategy=config["Strategy"],
            maximize=definitions[0].maximize,
            max_jobs=_max_jobs(config, definitions, autotune="Autotune" in request),
            max_parallel=limits["MaxParallelTrainingJobs"],
            max_runtime_s=limits.get("MaxRuntimeInSeconds", math.inf),
            early_stopping=_early_stopping(config, autotune="Autotune" in request),
            criteria=_criteria(config, autotune="Autotune" in request),
            max_resource=maximum,
            brackets=hyperband.brackets(minimum, maximum) if maximum else [],
        )
        plan._check_limits()
        return plan

    @property
    def num_tunables(self) -> int:
        return max(len(definition.ranges) for definition in self.definitions)

    def places(self, count: int) -> list[tuple[int, int]]:
        """For the trials 1 to `count`: the index of the definition, and how many it had before.

        Definitions take turns; one whose combinations are all tried is passed over.
        """
        room = [combinations(definition.ranges) for definition in self.definitions]
        counts = [0] * len(room)
        places = []
        for _ in range(count):
            open_ = [index for index, tried in enumerate(counts) if tried < room[index]] or [0]
            turn = min(open_, key=counts.__getitem__)
            places.append((turn, counts[turn]))
            counts[turn] += 1
        return places

    def _check_limits(self) -> None:
        for member, value, limit in (
            ("MaxNumberOfTrainingJobs", self.max_jobs, _MAX_JOBS.get(self.strategy, _MAX_JOBS_OTHERS)),
            ("MaxParallelTrainingJobs", self.max_parallel, _MAX_PARALLEL),
        ):
            if value > limit:
                raise ApiError(
                    "ResourceLimitExceeded",
                    f"{member} is {value}; a tuning job with the strategy {self.strategy} can have at most {limit}.",
                )
        possible = _combinations(self.definitions)
        if possible < self.max_jobs:
            raise validation(
                "You don't have enough combinations of hyperparameter ranges. The total number of hyperparameter "
                f"combinations for the provided ranges [{float(possible)}] must be equal or greater than the value of "
                f"MaxNumberOfJobs, [{self.max_jobs}]. Provide additional ranges."
            )


def _combinations(definitions: Sequence[Definition]) -> float:
    return sum(combinations(definition.ranges) for definition in definitions)


def _max_jobs(config: dict[str, Any], definitions: list[Definition], *, autotune: bool) -> int:
    given: int | None = config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    possible = _combinations(definitions)
    if config["Strategy"] == "Grid":
        for definition in definitions:
            if others := [item.name for item in definition.ranges if not isinstance(item, Categorical)]:
                raise validation(
                    f"The strategy Grid searches categorical ranges only; {', '.join(others)} is none. List the values "
                    "in CategoricalParameterRanges."
                )
        if given not in (None, possible):
            raise validation(
                f"MaxNumberOfTrainingJobs is {given}, but the grid has {possible} combinations; leave it out or make "
                "it equal."
            )
        return int(possible)
    if given is not None:
        return given
    if autotune:
        tunables = sum(len(definition.ranges) for definition in definitions)
        return int(min(_AUTOTUNE_JOBS * tunables, possible, _MAX_JOBS_OTHERS))
    raise validation(
        f"ResourceLimits.MaxNumberOfTrainingJobs is required for the strategy {config['Strategy']}; only Grid and "
        "Autotune can do without it."
    )


def _early_stopping(config: dict[str, Any], *, autotune: bool) -> bool:
    given = config.get("TrainingJobEarlyStoppingType")
    if config["Strategy"] == "Hyperband":
        if given == "Auto":
            raise validation(
                "TrainingJobEarlyStoppingType must be Off for the strategy Hyperband: it has early stopping of its own."
            )
        return False
    return given == "Auto" or (given is None and autotune)


def _criteria(config: dict[str, Any], *, autotune: bool) -> dict[str, Any]:
    criteria: dict[str, Any] = config.get("TuningJobCompletionCriteria", {})
    return {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}, **criteria} if autotune else criteria


def _resources(config: dict[str, Any], definitions: list[Definition]) -> tuple[int, int]:
    """MinResource and MaxResource of Hyperband; zeros for another strategy."""
    if config["Strategy"] != "Hyperband":
        if "StrategyConfig" in config:
            raise validation(f"StrategyConfig is for the strategy Hyperband, not for {config['Strategy']}.")
        return 0, 0
    given = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    minimum, maximum = given.get("MinResource", 1), given.get("MaxResource") or _inferred_resource(definitions)
    if not minimum < maximum <= hyperband.MAX_RESOURCE:
        raise validation(
            f"HyperbandStrategyConfig: MinResource {minimum} must be less than MaxResource {maximum}, and that at most "
            f"{hyperband.MAX_RESOURCE}."
        )
    return minimum, maximum


def _inferred_resource(definitions: list[Definition]) -> int:
    texts = {definition.static.get(name, "").strip('"') for definition in definitions for name in _EPOCHS}
    found = {int(text) for text in texts if text.isascii() and text.isdigit()}
    if not found:
        raise validation(
            "Hyperband needs HyperbandStrategyConfig.MaxResource, or one of the static hyperparameters "
            f"{', '.join(_EPOCHS)} to infer it from."
        )
    return max(found)
