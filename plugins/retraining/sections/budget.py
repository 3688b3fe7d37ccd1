"""What one run may cost at most."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from retraining.sections.machines import require_instance_type
from retraining.sections.refusal import RecipeError, require


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A run whose jobs could cost more, should each take all the time it is given, is refused before the first one.

    Prices are a person's word: they differ by region and by contract, and no task asks AWS for them. Where a machine
    has several prices (for training, processing and hosting), give the highest.
    """

    max_usd: float | None = None
    max_instance_hours: float | None = None
    usd_per_hour: dict[str, float] = field(default_factory=dict)
    """Instance type → USD an hour, on demand."""

    def __post_init__(self) -> None:
        for key in ("max_usd", "max_instance_hours"):
            limit = getattr(self, key)
            require(limit is None or _is_positive(limit), key, limit, "must be a number above 0")
        for instance_type, price in self.usd_per_hour.items():
            try:
                require_instance_type(instance_type)
            except RecipeError as error:
                raise error.inside("usd_per_hour") from None
            require(_is_positive(price), f"usd_per_hour.{instance_type}", price, "must be a number of USD above 0")
        require(
            self.max_usd is None or bool(self.usd_per_hour),
            "usd_per_hour",
            self.usd_per_hour,
            "max_usd needs the price of an hour of each instance type",
            "Add for example usd_per_hour: {ml.m5.xlarge: 0.23}.",
        )

    def unpriced(self, instance_types: Iterable[str]) -> list[str]:
        """The types without a price, each once."""
        return sorted(set(instance_types) - self.usd_per_hour.keys())


def _is_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
