"""A regular expression in a recipe: Airflow compiles it at every parse, and one that is none is refused by its key."""

from __future__ import annotations

import re

from retraining.recipe.hyperparameters import HYPERPARAMETER_LIMIT

MOST_PARENTHESES = 100
"""Of a pattern. `re` recurses with each that is nested: how many it takes depends on the process that compiles it
(Airflow raises its own recursion limit to 5,000, a job has Python's 1,000), so a limit of ours is far below both."""


def groups(pattern: str, most: int) -> int | None:
    """How many groups it has; None for what is no regular expression, has more than `most` characters,
    or more than `MOST_PARENTHESES`."""
    if len(pattern) > most or pattern.count("(") > MOST_PARENTHESES:
        return None
    try:
        return re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError):  # the latter two: a stack nearly full, a repetition too large
        return None


def are_patterns(patterns: list[str]) -> bool:
    """Whether each can be sent to a job and be compiled there."""
    return all(groups(pattern, HYPERPARAMETER_LIMIT) is not None for pattern in patterns)
