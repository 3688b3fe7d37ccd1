"""A regular expression in a recipe: Airflow compiles it at every parse, and one that is none is refused by its key."""

from __future__ import annotations

import re

from retraining.recipe.hyperparameters import HYPERPARAMETER_LIMIT


def groups(pattern: str, most: int) -> int | None:
    """How many groups it has; None for what is no regular expression, or has more than `most` characters."""
    if len(pattern) > most:
        return None
    try:
        return re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError):  # nested too deeply; a repetition too large
        return None


def are_patterns(patterns: list[str]) -> bool:
    """Whether each can be sent to a job and be compiled there."""
    return all(groups(pattern, HYPERPARAMETER_LIMIT) is not None for pattern in patterns)
