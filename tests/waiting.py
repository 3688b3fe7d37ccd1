"""One patience for all waits that only a hang outlasts: a slow or loaded machine takes its time and fails nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 240.0

Answer = TypeVar("Answer")


def wait_until(
    condition: Callable[[], Answer],
    said: str | Callable[[], str] | None = None,
    every_s: float = 0.02,
    *,
    patience_s: float = PATIENCE_S,
) -> Answer:
    """The first truthy answer of `condition`; fails with `said` (such as the end of a log) when there is none."""
    deadline = time.monotonic() + patience_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"it did not happen within {patience_s:.0f} s\n{said() if callable(said) else said or ''}"
            )
        time.sleep(every_s)
    return answer
