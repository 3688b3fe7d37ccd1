"""What rules judged is read from the verdicts that they left, and from nothing that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from retraining.debugger.series import MAX_BYTES, MOST_POINTS, read_series
from retraining.requests.debugger import rule_output_key
from tests.plugins.test_needs_retraining import PROMOTED, Trigger, finish, trigger

__all__ = ["trigger"]

SERIES = {"tensor": "t", "what": "training loss", "steps": [0, 5], "values": [1.0, None], "threshold": None}


@pytest.fixture
def told(s3: Any, bucket: str) -> Any:
    """told(verdict of the rule Spike) -> what is read of it."""

    def tell(body: Any, status: str = "IssuesFound") -> dict[str, Any]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        s3.put_object(Bucket=bucket, Key="runs/x/Spike/verdict.json", Body=content)
        return read_series(s3, bucket, "runs/x", [{"rule": "Spike", "status": status}])

    return tell


def test_a_series_is_read_with_the_step_of_the_issue(told: Any) -> None:
    assert told({"Series": SERIES, "Evidence": {"step": 5}}) == {"Spike": SERIES | {"step": 5}}


def test_a_rule_that_follows_no_number_is_told_from_one_of_sagemaker(s3: Any, bucket: str, told: Any) -> None:
    assert told({"Evidence": {"step": 5}}) == {"Spike": None}
    assert read_series(s3, bucket, "runs/x", [{"rule": "Elsewhere", "status": "IssuesFound"}]) == {}


def test_only_issues_are_read(told: Any) -> None:
    assert told({"Series": SERIES, "Evidence": {"step": 5}}, status="NoIssuesFound") == {}


@pytest.mark.parametrize("body", [b"{", b"[]", b"[" * 100_000, b" " * (MAX_BYTES + 1)], ids=len)
def test_what_is_no_verdict_tells_nothing(told: Any, body: bytes) -> None:
    assert told(body) == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": []},
        {"steps": [1]},
        {"values": "ab"},
        {"steps": None},
        dict.fromkeys(("steps", "values"), [0] * (MOST_POINTS + 1)),
    ],
)
def test_what_is_no_series_is_not_drawn(told: Any, changed: dict[str, Any]) -> None:
    assert told({"Series": SERIES | changed, "Evidence": {"step": 5}}) == {"Spike": None}


def test_a_run_keeps_what_its_rules_judged(trigger: Trigger) -> None:
    run = trigger(1)
    run.context["ti"].known |= {  # type: ignore[attr-defined]
        "train.job": {"kind": "training", "name": "job-1"},
        "debugger_verdict.verdicts": [
            {"rule": "Spike", "status": "IssuesFound", "details": "", "policy": "warn"},
            {"rule": "Clean", "status": "NoIssuesFound", "details": "", "policy": "warn"},
        ],
    }
    key = f"{rule_output_key(run.plan, 'job-1')}/Spike/verdict.json"
    run.write_json(key, {"Series": SERIES, "Evidence": {"step": 5}})
    finish(run, PROMOTED)
    assert run.read_json(run.plan.series_key) == {"Spike": SERIES | {"step": 5}}
