"""A client of the endpoint that never stops asking, and what it was answered; told apart by the kills around it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.e2e.laptop import draw

EVERY_S = 1.0
CLASSES = ("ground", "sky")


@dataclass(frozen=True)
class Answer:
    """`began`, `ended`: time.time()."""

    began: float
    ended: float
    wrong: str = ""
    """Why it is none that a client can use; empty where it is one."""


@dataclass(frozen=True)
class Served:
    """What DescribeEndpoint named from then on."""

    since: float
    config: str


class Client:
    """Asks in a thread of its own between `start` and `stop`."""

    def __init__(self, endpoint: str, clients: Callable[[str], Any]) -> None:
        """`clients`: name of a service → a boto3 client that retries nothing."""
        self._endpoint, self._clients = endpoint, clients
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._ask, self._look)]
        self.answers: list[Answer] = []
        self.served: list[Served] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)

    def _ask(self) -> None:
        runtime, number = self._clients("sagemaker-runtime"), 0
        while not self._stop.wait(EVERY_S):
            number += 1
            kind = CLASSES[number % 2]
            began = time.time()
            wrong = self._invoke(runtime, draw(kind, 10_000_000 + number % 50))
            self.answers.append(Answer(began, time.time(), wrong))

    def _invoke(self, runtime: Any, body: bytes) -> str:
        try:
            answer = runtime.invoke_endpoint(EndpointName=self._endpoint, ContentType="image/png", Body=body)
            label = json.loads(answer["Body"].read())["label"]
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:300]
        return "" if label in CLASSES else f"the label {label!r}"

    def _look(self) -> None:
        sagemaker = self._clients("sagemaker")
        while not self._stop.wait(1):
            try:
                config = str(sagemaker.describe_endpoint(EndpointName=self._endpoint)["EndpointConfigName"])
            except Exception:
                continue
            if not self.served or self.served[-1].config != config:
                self.served.append(Served(time.time(), config))


def outages(answers: Sequence[Answer], kills: Iterable[float], until: float) -> list[tuple[float, float]]:
    """For each kill of what answers, when it was and when the first request was answered that began after it.

    `until` where none was. A kill that nobody noticed (of a second server) ends with the next answer.
    """
    good = [answer for answer in answers if not answer.wrong]
    return [(kill, min((a.ended for a in good if a.began > kill), default=until)) for kill in kills]


def unexcused(answers: Sequence[Answer], windows: Sequence[tuple[float, float]]) -> list[Answer]:
    """Failed requests of which no moment lies in an outage."""
    return [a for a in answers if a.wrong and not any(a.began <= end and a.ended >= start for start, end in windows)]
