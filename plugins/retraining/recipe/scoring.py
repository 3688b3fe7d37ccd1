"""What scores the test set."""

from __future__ import annotations

from dataclasses import dataclass

from retraining.recipe.machines import InstanceType
from retraining.recipe.rules import SECTION


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """The batch transform jobs in which candidate and champion answer the same images, on the same machine."""

    __pydantic_config__ = SECTION

    instance_type: InstanceType | None = None
    """The endpoint's where it is left out and batch transform has it, else the nearest that it has."""
