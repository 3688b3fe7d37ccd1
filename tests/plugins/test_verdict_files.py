"""Verdicts of self-hosted rules, in the form of managed ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from retraining.debugger.rule_verdicts import rule_verdicts
from retraining.debugger.verdict_files import read_statuses

RULES = {"DebugRuleEvaluationStatuses": ["Overfit"], "ProfilerRuleEvaluationStatuses": ["ProfilerReport"]}


def put(s3: Any, bucket: str, rule: str, body: bytes) -> None:
    s3.put_object(Bucket=bucket, Key=f"job/rule-output/{rule}/verdict.json", Body=body)


def status(s3: Any, bucket: str, problem: str = "") -> dict[str, str]:
    (verdict, _) = rule_verdicts(read_statuses(s3, f"s3://{bucket}/job/rule-output/", RULES, problem), {})
    return verdict.as_dict()


def test_a_verdict_file_reads_as_sagemakers_own_answer(s3: Any, bucket: str) -> None:
    found = {"RuleEvaluationStatus": "IssuesFound", "StatusDetails": "at step 3\n", "Evidence": {"step": 3}}
    put(s3, bucket, "Overfit", json.dumps(found).encode())
    put(s3, bucket, "ProfilerReport", b'{"RuleEvaluationStatus": "NoIssuesFound", "StatusDetails": ""}')
    managed = {
        "DebugRuleEvaluationStatuses": [
            {"RuleConfigurationName": "Overfit", "RuleEvaluationStatus": "IssuesFound", "StatusDetails": "at step 3\n"}
        ],
        "ProfilerRuleEvaluationStatuses": [
            {"RuleConfigurationName": "ProfilerReport", "RuleEvaluationStatus": "NoIssuesFound"}
        ],
    }
    ours = read_statuses(s3, f"s3://{bucket}/job/rule-output", RULES)
    assert rule_verdicts(ours, {"Overfit": "fail"}) == rule_verdicts(managed, {"Overfit": "fail"})


def test_a_missing_verdict_is_an_error_that_says_so(s3: Any, bucket: str) -> None:
    found = status(s3, bucket)
    assert found["status"] == "Error"
    assert found["details"].endswith(f"s3://{bucket}/job/rule-output/Overfit/verdict.json does not exist.")
    assert status(s3, bucket, "Processing job x is Failed: no room")["details"] == "Processing job x is Failed: no room"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'"x"', b"{}", b'{"RuleEvaluationStatus": "Fine", "StatusDetails": ""}', b"\xff\xfe"]
)
def test_a_broken_verdict_is_an_error_that_shows_it(s3: Any, bucket: str, body: bytes) -> None:
    put(s3, bucket, "Overfit", body)
    found = status(s3, bucket)
    assert found["status"] == "Error"
    assert "Overfit/verdict.json is not a verdict" in found["details"]
