"""A page waits for its documents once, and for its clients nearly never."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import pytest
from botocore.config import Config

from retraining.page.clients import kept_client
from retraining.page.documents import Shelf
from retraining.page.live import from_report
from tests.page.runs import documents

DIGITS = [str(digit) for digit in range(10)]
HASTE, PATIENCE = Config(read_timeout=1), Config(read_timeout=9)


class Together:
    """An S3 that answers none before all have asked."""

    def __init__(self, readers: int) -> None:
        self.all = threading.Barrier(readers, timeout=20)
        self.asked: set[str] = set()

    def get_object(self, Key: str, **_: Any) -> dict[str, Any]:
        self.asked.add(Key.rpartition("/")[2])
        self.all.wait()
        return {"Body": io.BytesIO(json.dumps({"is": Key}).encode())}


def test_the_documents_of_a_run_are_asked_for_at_once() -> None:
    run, s3 = documents(DIGITS), Together(7)
    found = from_report(Shelf(s3=s3, bucket="b"), run.record, "digits/runs/x", run.report, {})
    of_run = {"evaluation.json", "images.json", "labels.json", "training.json", "rules.json"}
    assert s3.asked == of_run | {"kept-out.json", "strips.json"}
    assert found.album == {"is": "digits/runs/x/page/images.json"} and found.dataset is None


def test_a_client_is_made_once_for_each_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retraining.page.clients.client", lambda *_: object())
    first = kept_client("s3", HASTE)
    assert kept_client("s3", HASTE) is first and kept_client("s3", PATIENCE) is not first
