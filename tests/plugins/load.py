"""Clients of an endpoint that never stop asking while a test changes what serves."""

from __future__ import annotations

import json
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from retraining.run import Run
from tests.plugins.release_run import GOLDEN
from tests.waiting import wait_until

CLIENTS = 4


class Load:
    """`with Load(run) as load:` … `load.failures`, `load.labels`."""

    def __init__(self, run: Run) -> None:
        self._runtime, self._endpoint = run.runtime, run.plan.endpoint
        key = f"{run.plan.images_key}{GOLDEN}"
        self._picture = run.s3.get_object(Bucket=run.environment.bucket, Key=key)["Body"].read()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        self._lock = threading.Lock()
        self.labels: Counter[str] = Counter()
        """Answers, by what they said."""
        self.failures: list[str] = []

    @property
    def asked(self) -> int:
        return self.labels.total() + len(self.failures)

    def wait_for(self, count: int) -> None:
        """Until so many requests have been answered in all."""
        wait_until(lambda: self.asked >= count, lambda: f"{self.asked} requests", patience_s=600)

    def _ask(self) -> None:
        while not self._stop.is_set():
            label, failure = self._answer()
            with self._lock:
                if failure:
                    self.failures.append(failure)
                else:
                    self.labels[label] += 1

    def _answer(self) -> tuple[str, str]:
        request: dict[str, Any] = {"ContentType": "image/png", "Body": self._picture}
        try:
            answer = self._runtime.invoke_endpoint(EndpointName=self._endpoint, **request)["Body"].read()
        except (ClientError, BotoCoreError) as error:
            return "", str(error)
        try:
            return str(json.loads(answer)["label"]), ""
        except (ValueError, KeyError):
            return "unreadable", ""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
