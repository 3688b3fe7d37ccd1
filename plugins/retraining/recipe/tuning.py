"""The search for hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from retraining.recipe.hyperparameters import Value
from retraining.recipe.refusal import require
from retraining.recipe.rules import SECTION, BareOff, Between


@dataclass(frozen=True, kw_only=True)
class Range:
    """What tuning may choose for one hyperparameter."""

    __pydantic_config__ = SECTION

    type: Literal["continuous", "integer", "categorical"]
    min: float | None = None
    max: float | None = None
    scaling: Literal["Auto", "Linear", "Logarithmic", "ReverseLogarithmic"] = "Auto"
    values: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        if self.type == "categorical":
            require(bool(self.values), "values", list(self.values), "a categorical range needs a list of values")
            require(len(self.values) <= 30, "values", list(self.values), "SageMaker takes at most 30 values")
            require(len(set(self.values)) == len(self.values), "values", list(self.values), "has a value twice")
            require(
                self.min is None and self.max is None, "min", self.min, "a categorical range has values, no min or max"
            )
            return
        require(not self.values, "values", list(self.values), f"a {self.type} range has min and max, no values")
        for key in ("min", "max"):
            bound = getattr(self, key)
            require(bound is not None, key, bound, f"a {self.type} range needs min and max")
            require(math.isfinite(bound), key, bound, "must be a finite number")
            require(self.type != "integer" or bound == int(bound), key, bound, "must be a whole number")
        low, high = self.bounds
        require(low < high, "min", self.min, f"must be smaller than max = {high:g}", "Swap min and max.")
        if self.scaling == "Logarithmic":
            require(low > 0, "min", self.min, "a Logarithmic range must start above 0", "Use Linear, or a larger min.")
        if self.scaling == "ReverseLogarithmic":
            inside = self.type == "continuous" and low >= 0 and high < 1
            require(inside, "scaling", self.scaling, "works only for continuous ranges with 0 <= min < max < 1")

    @property
    def bounds(self) -> tuple[float, float]:
        """(min, max) of a numeric range."""
        assert self.min is not None and self.max is not None
        return self.min, self.max

    def allowed(self) -> Iterator[tuple[str, Value]]:
        """(key, value) of everything that decides whether the training script would accept this range."""
        if self.type == "categorical":
            yield from (("values", value) for value in self.values)
            return
        low, high = self.bounds
        yield from (("min", int(low)), ("max", int(high))) if self.type == "integer" else (("min", low), ("max", high))


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The search: each trial is one paid training job."""

    __pydantic_config__ = SECTION

    objective: Literal["validation:accuracy", "validation:macro_f1", "validation:f1", "validation:loss"] = (
        "validation:accuracy"
    )
    goal: Literal["Maximize", "Minimize"] = "Maximize"
    strategy: Literal["Bayesian", "Random"] = "Bayesian"
    max_jobs: Annotated[int, Between(1, 750, ", SageMaker's limit")] = 4
    max_parallel_jobs: Annotated[int, Between(1, 10)] = 2
    early_stopping: Annotated[Literal["Off", "Auto"], BareOff("Off")] = "Off"
    warm_start: Annotated[Literal["auto", "off"], BareOff("off")] = "auto"
    """auto: a Bayesian search begins from what earlier searches of this recipe found; off: from nothing."""
    ranges: dict[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = "Minimize" if self.objective == "validation:loss" else "Maximize"
        require(self.goal == wanted, "goal", self.goal, f"{self.objective} gets better when you {wanted} it")
        require(
            self.max_parallel_jobs <= self.max_jobs,
            "max_parallel_jobs",
            self.max_parallel_jobs,
            f"must be 1 to 10 and at most max_jobs = {self.max_jobs}",
        )
        require(bool(self.ranges), "ranges", self.ranges, "tuning needs at least one range", "Add e.g. lr.")
