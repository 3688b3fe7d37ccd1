"""When a candidate may serve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from retraining.sections.refusal import require


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A candidate is promoted when metric >= champion + min_improvement and metric >= min_value."""

    metric: Literal["accuracy", "macro_f1", "log_loss"] = "accuracy"
    min_improvement: float = 0.0
    min_value: float | None = None

    def __post_init__(self) -> None:
        require(
            math.isfinite(self.min_improvement) and self.min_improvement > -1,
            "min_improvement",
            self.min_improvement,
            "must be a number above -1",
        )
        if self.metric != "log_loss" and self.min_value is not None:
            require(0 <= self.min_value <= 1, "min_value", self.min_value, f"{self.metric} lies between 0 and 1")
