"""How far a sync is: lines in a task's log, or a bar for a person at a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID

log = logging.getLogger(__name__)

SAY_EVERY = 5_000

Progress = Callable[[str, int, int], None]
"""Told "Verified", "Uploaded", "Packed" or "Written", how many are done, and of how many, from any thread.

Of how many may grow: an importer knows of a file when it opens it.
"""


def in_log(what: str, done: int, total: int) -> None:
    """A line now and then, and at the end."""
    if done % SAY_EVERY == 0 or done == total:
        log.info("%s %d of %d.", what, done, total)


@contextmanager
def at_terminal() -> Iterator[Progress]:
    """A bar for each kind of work, on the error output; lines where that is no terminal."""
    if not sys.stderr.isatty():
        yield in_log
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Bars(*columns, console=Console(stderr=True))
    known: dict[str, TaskID] = {}
    adding = Lock()

    def show(what: str, done: int, total: int) -> None:
        with adding:
            if what not in known:
                known[what] = bars.add_task(what, total=total)
        bars.update(known[what], completed=done, total=total)

    with bars:
        yield show
