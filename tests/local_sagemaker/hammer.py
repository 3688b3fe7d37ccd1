"""Clients that never stop asking an endpoint while a test changes it, and what they were answered."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import botocore.exceptions

from tests.clients import Clients
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


class Hammer(Clients):
    """`with Hammer(server, endpoint) as asked:` … `asked.versions()`."""

    def __init__(self, server: Server, endpoint: str, body: bytes = b"image", clients: int = 4) -> None:
        super().__init__(clients)
        self._server = server
        self._endpoint = endpoint
        self._body = body
        self.asked: list[Asked] = []

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

    def ask(self) -> None:
        at = time.monotonic()
        try:
            answer: dict[str, Any] = invoke(self._server, self._endpoint, self._body)
            self.asked.append(Asked(at, answer["version"], answer["pid"], ""))
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            self.asked.append(Asked(at, None, 0, str(error)))
