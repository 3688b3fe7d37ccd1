"""One thread beside the training's own, for work that the training need not wait for, in the order it was given."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable


Result = TypeVar("Result")


class SideThread:
    """Started by the first work. numpy lets go of the interpreter while it computes, so a free core takes it over."""

    def __init__(self, name: str) -> None:
        self.pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def do(self, work: Callable[..., Result], *arguments: object) -> Future[Result]:
        """-> its Future. When the interpreter ends there are no more threads; then it is done before this returns."""
        try:
            return self.pool.submit(work, *arguments)
        except RuntimeError:
            done: Future[Result] = Future()
            try:
                done.set_result(work(*arguments))
            except Exception as error:
                done.set_exception(error)
            return done
