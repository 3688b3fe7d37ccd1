"""When a candidate may serve."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from retraining.recipe.refusal import require
from retraining.recipe.rules import SECTION, Above, Between
from retraining.recipe.slices import Slice, read_slice

#: How sure the gain must be → confidence, where a recipe says none. bench/promotion.py tried them on years of retrains.
CONFIDENCE = {"point": 0.95, "clearly_better": 0.95, "not_clearly_worse": 0.6}


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A candidate is promoted when its gain over the champion reaches min_improvement, and it is above the floors."""

    __pydantic_config__ = SECTION

    metric: Literal["accuracy", "macro_f1", "log_loss"] = "accuracy"
    min_improvement: Annotated[float, Above(-1)] = 0.0
    """May be negative: a loss that is accepted."""
    evidence: Literal["point", "clearly_better", "not_clearly_worse"] | None = None
    """How sure the gain must be. point: as measured, and the reason tells how sure that is. clearly_better: only where
    chance does not explain it. not_clearly_worse: unless it is clear that the gain is missed; many small losses,
    none of them clear, may then add up over the weeks, which is what min_value is for; with fewer than 50 test images
    as point, for they make nothing clear. None: not_clearly_worse, but point where a gain is required."""
    confidence: Annotated[float, Between(0.5, 0.99, "; the tails beyond are too thin for the resamples")] | None = None
    """Of the two-sided interval that "clearly" goes by; None: as CONFIDENCE has it."""
    min_value: float | None = None
    min_class_recall: Annotated[float, Between(0, 1, ", as a recall is")] | None = None
    """Share of each class's test images that must be recognised: an average hides a class that was lost."""

    max_calibration_error: Annotated[float, Between(0, 1, ", as an expected calibration error is")] | None = None
    max_size_ratio: Annotated[float, Above(0)] | None = None
    """Of the artifact, against the champion's."""
    worse_classes: Literal["fail", "warn", "ignore"] = "fail"
    """What happens where the candidate is clearly worse than the champion in one class or slice."""
    slices: dict[str, str] = field(default_factory=dict)
    """Name → what its test images have in common, as `read_slice` reads it: each is judged like a class."""

    def __post_init__(self) -> None:
        for name, text in self.slices.items():
            read_slice(name, text)
        if self.min_value is not None:
            require(math.isfinite(self.min_value), "min_value", self.min_value, "must be a number")
            if self.metric != "log_loss":
                require(0 <= self.min_value <= 1, "min_value", self.min_value, f"{self.metric} lies between 0 and 1")
            require(self.min_value >= 0, "min_value", self.min_value, "no log_loss is below 0")
        if self.metric != "log_loss":
            rule = f"is a share of {self.metric}, which is 1 at most: no gain can be as large"
            require(self.min_improvement < 1, "min_improvement", self.min_improvement, rule, "One percent is 0.01.")

    @property
    def cuts(self) -> dict[str, Slice]:
        """The slices, read."""
        return {name: read_slice(name, text) for name, text in self.slices.items()}

    @property
    def how_sure(self) -> str:
        """The evidence that is asked for."""
        return self.evidence or ("point" if self.min_improvement > 0 else "not_clearly_worse")

    @property
    def in_words(self) -> str:
        """What the gate asks of the metric, for people."""
        how = {
            "point": "as measured",
            "clearly_better": "clearly",
            "not_clearly_worse": "unless that is clearly missed",
        }
        gain = f"{self.metric} gains {self.min_improvement:+g} on the champion's ({how[self.how_sure]})"
        floors = {
            f"is at {'most' if self.metric == 'log_loss' else 'least'}": self.min_value,
            "each class's recall is at least": self.min_class_recall,
        }
        return ", ".join([gain, *(f"{what} {floor:g}" for what, floor in floors.items() if floor is not None)])

    @property
    def interval(self) -> float:
        """The confidence that holds."""
        return CONFIDENCE[self.how_sure] if self.confidence is None else self.confidence
