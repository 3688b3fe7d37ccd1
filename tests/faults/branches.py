"""One run that goes on in many ways: where something may befall it, a child process goes on with that.

What comes before is the same for all, and is simulated once: that halves what `make faults` takes.
"""

from __future__ import annotations

import gc
import os
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

Act = Callable[[], None]


class BranchError(Exception):
    """The simulation itself is wrong."""


class Branches:
    """`told` is what became of each branch, in the order in which they left the run."""

    def __init__(self, first: int = 0, step: int = 1, most: int | None = None) -> None:
        """Of the moments that are offered, each `step`-th becomes one; `most` of them where that is said."""
        self.told: list[Any] = []
        self.point: str | None = None
        """What befell the run, in the process of a branch."""
        self._offered, self._step, self._write = -1 - first, step, -1
        self._most = most

    def offer(self, point: str, act: Act) -> None:
        """A moment at which a branch may begin; `act` is called in it, and what it raises befalls the run."""
        self._offered += 1
        if self.point is not None or self._offered < 0 or self._offered % self._step:
            return
        if self._most is not None and len(self.told) >= self._most:
            return
        if threading.current_thread() is not threading.main_thread():
            # The others of its pool would not be in the child, which would wait for them for ever.
            raise BranchError(f"{point}: a call of a thread. Make its module one of installation.SERIAL")
        read, write = os.pipe()
        if child := os.fork():
            os.close(write)
            with open(read, "rb") as sent:
                text = sent.read()
            os.waitpid(child, 0)
            self.told.append(pickle.loads(text))
            return
        gc.disable()  # it would touch, and so copy, the parent's whole memory for a run of half a second
        os.close(read)
        _keep_folders_of_the_parent()
        self.point, self._write = point, write
        act()

    def ended(self, run: Callable[[], Any], tell: Callable[[str], Any]) -> Iterator[Any]:
        """Runs it; a branch tells what it has to of its point, and is over. Its own errors are raised here."""
        try:
            run()
            if self.point is None:
                yield from self._told()
                return
            found = tell(self.point)
        except BaseException as error:
            if self.point is None:
                raise
            found = BranchError(f"{self.point}: {error!r}")
        with open(self._write, "wb") as out:
            out.write(pickle.dumps(found))
        os._exit(0)

    def _told(self) -> Iterator[Any]:
        for found in self.told:
            if isinstance(found, BranchError):
                raise found
            yield found


def _keep_folders_of_the_parent() -> None:
    """A branch that leaves a scratch folder would delete it for the run that it left, which is still in it."""
    present, cleanup = set(os.listdir(tempfile.gettempdir())), tempfile.TemporaryDirectory.cleanup

    def own(folder: tempfile.TemporaryDirectory[str]) -> None:
        if os.path.basename(folder.name) in present:
            folder._finalizer.detach()  # type: ignore[attr-defined]
        else:
            cleanup(folder)

    tempfile.TemporaryDirectory.cleanup = own  # type: ignore[method-assign]
