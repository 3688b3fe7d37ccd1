"""What one run may cost at most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

from retraining.recipe.machines import InstanceType
from retraining.recipe.refusal import require
from retraining.recipe.rules import SECTION, Above


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A run whose jobs could cost more, should each take all the time it is given, is refused before the first one.

    Prices are a person's word: they differ by region and by contract, and no task asks AWS for them. Where a machine
    has several prices (for training, processing and hosting), give the highest.
    """

    __pydantic_config__ = SECTION

    max_usd: Annotated[float, Above(0)] | None = None
    max_instance_hours: Annotated[float, Above(0)] | None = None
    usd_per_hour: dict[InstanceType, Annotated[float, Above(0, "of USD ")]] = field(default_factory=dict)
    """Instance type → USD an hour, on demand."""

    def __post_init__(self) -> None:
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
