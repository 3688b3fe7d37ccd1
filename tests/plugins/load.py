"""Clients of an endpoint that never stop asking while a test changes what serves."""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from retraining.run import Run
from tests.clients import Clients
from tests.plugins.release_run import GOLDEN
from tests.waiting import wait_until


class Load(Clients):
    """`with Load(run) as load:` … `load.failures`, `load.labels`."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._runtime, self._endpoint = run.runtime, run.plan.endpoint
        key = f"{run.plan.images_key}{GOLDEN}"
        self._picture = run.s3.get_object(Bucket=run.environment.bucket, Key=key)["Body"].read()
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

    def ask(self) -> None:
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
