"""One patience for all waits that only a hang outlasts: a slow or loaded machine takes its time and fails nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 240.0
#: A wait of some seconds asks less often than one of a moment: a question costs its server, and all beside it, as well.
LONGEST_PAUSE_S = 0.2

Answer = TypeVar("Answer")


def wait_until(
    condition: Callable[[], Answer],
    said: str | Callable[[], str] | None = None,
    every_s: float = 0.02,
    *,
    patience_s: float = PATIENCE_S,
) -> Answer:
    """The first truthy answer of `condition`; fails with `said` (such as the end of a log) when there is none."""
    began = time.monotonic()
    while not (answer := condition()):
        waited_s = time.monotonic() - began
        if waited_s > patience_s:
            raise AssertionError(
                f"it did not happen within {patience_s:.0f} s\n{said() if callable(said) else said or ''}"
            )
        time.sleep(max(every_s, min(LONGEST_PAUSE_S, waited_s / 10)))
    return answer
