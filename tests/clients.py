"""Threads that do the same over and over while a test does something else."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self


class Clients:
    """`with` them, `ask` is called again and again by each of `count` threads."""

    def __init__(self, count: int = 4) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._go_on) for _ in range(count)]

    def ask(self) -> None:
        raise NotImplementedError

    def _go_on(self) -> None:
        while not self._stop.is_set():
            self.ask()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
