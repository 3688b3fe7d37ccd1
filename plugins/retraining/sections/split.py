"""How images are divided."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from retraining.sections.refusal import require


@dataclass(frozen=True, kw_only=True)
class Split:
    """Shares of the images; each class gets at least one image in each part."""

    train: float = 0.7
    validation: float = 0.15
    test: float = 0.15
    group_by: str | None = None
    """A regular expression with one group, searched in each file's own name, without its folders: images for which
    it finds the same text (one patient, one product) are never divided between splits."""

    def __post_init__(self) -> None:
        shares = {"train": self.train, "validation": self.validation, "test": self.test}
        for key, share in shares.items():
            require(0 < share < 1, key, share, "must be a share between 0 and 1")
        total = sum(shares.values())
        require(math.isclose(total, 1), "", shares, f"the three shares must add up to 1, they make {total:g}")
        if self.group_by is not None:
            require(
                _groups(self.group_by) == 1, "group_by", self.group_by, "must be a regular expression with one (group)"
            )


def _groups(pattern: str) -> int | None:
    try:
        return re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError):  # nested too deeply; a repetition too large
        return None
