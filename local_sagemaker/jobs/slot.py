"""A place among the jobs that run at once (Settings.max_concurrent_jobs)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from local_sagemaker.background import Background

_POLL_S = 0.2


@contextlib.contextmanager
def held(background: Background, stop: threading.Event) -> Iterator[bool]:
    """Wait for a place and hold it; False when `stop` was set before there was one."""
    while not background.slots.acquire(timeout=_POLL_S):
        if stop.is_set():
            yield False
            return
    try:
        yield True
    finally:
        background.slots.release()
