"""Clients that never stop asking an endpoint while a test changes it, and what they were answered."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import botocore.exceptions

from tests.local_sagemaker.harness import Server
from tests.local_sagemaker.serving import invoke
from tests.waiting import wait_until


@dataclasses.dataclass(frozen=True)
class Asked:
    at: float
    """When it was sent (time.monotonic)."""
    version: int | None
    """Of the model that answered; None for a request that failed."""
    pid: int
    error: str


class Hammer:
    """`with Hammer(server, endpoint) as asked:` … `asked.versions()`."""

    def __init__(self, server: Server, endpoint: str, body: bytes = b"image", clients: int = 4) -> None:
        self._server = server
        self._endpoint = endpoint
        self._body = body
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self.asked: list[Asked] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def failures(self) -> list[str]:
        return [asked.error for asked in self.asked if asked.version is None]

    def versions(self, since: float = 0.0, until: float = float("inf")) -> list[int | None]:
        """Who answered what was asked in that time (time.monotonic)."""
        return [asked.version for asked in self.asked if since <= asked.at < until]

    def wait(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, lambda: str(self.asked[-5:]))

    def wait_for(self, count: int) -> None:
        """Until so many more requests have been answered."""
        before = len(self.asked)
        self.wait(lambda: len(self.asked) >= before + count)

    def _ask(self) -> None:
        while not self._stop.is_set():
            at = time.monotonic()
            try:
                answer: dict[str, Any] = invoke(self._server, self._endpoint, self._body)
                self.asked.append(Asked(at, answer["version"], answer["pid"], ""))
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
                self.asked.append(Asked(at, None, 0, str(error)))
