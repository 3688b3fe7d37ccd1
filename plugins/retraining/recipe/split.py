"""How images are divided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from retraining.recipe.pattern import groups
from retraining.recipe.refusal import require
from retraining.recipe.rules import SECTION, Where

MAX_PATTERN = 500
"""Characters: each may be a class of all letters there are, and Airflow compiles a recipe's pattern at every parse."""


_RULE = f"must be a regular expression with one (group), and have at most {MAX_PATTERN} characters"
Group = Annotated[str, Where(lambda pattern: groups(pattern, MAX_PATTERN) == 1, _RULE)]
Share = Annotated[float, Where(lambda share: 0 < share < 1, "must be a share between 0 and 1")]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Shares of the images; each class gets at least one image in each part."""

    __pydantic_config__ = SECTION

    train: Share = 0.7
    validation: Share = 0.15
    test: Share = 0.15
    group_by: Group | None = None
    """A regular expression with one group, searched in each file's own name, without its folders: images for which
    it finds the same text (one patient, one product) are never divided between splits."""

    def __post_init__(self) -> None:
        shares = {"train": self.train, "validation": self.validation, "test": self.test}
        total = sum(shares.values())
        require(
            math.isclose(total, 1, abs_tol=1e-6),
            "",
            shares,
            f"the three shares must add up to 1, they make {total:.9g}",
        )
