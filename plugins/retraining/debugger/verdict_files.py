"""The verdicts of self-hosted rules, read from S3 into the form that SageMaker tells managed ones in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import RULES_DONE


def read_statuses(
    s3: Any, output_uri: str, rules: Mapping[str, Sequence[str]], problem: str = ""
) -> dict[str, list[dict[str, str]]]:
    """The two rule status lists of a DescribeTrainingJob answer, from <output_uri>/<rule>/verdict.json.

    `rules`: list → the rules in it. A verdict that is missing or broken is an Error, whose details say so and, where
    the evaluation itself failed, why (`problem`).
    """
    return {member: [_status(s3, output_uri, name, problem) for name in names] for member, names in rules.items()}


def _status(s3: Any, output_uri: str, rule: str, problem: str) -> dict[str, str]:
    uri = f"{output_uri.rstrip('/')}/{rule}/verdict.json"
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in ("NoSuchKey", "404"):
            raise
        return _error(rule, problem or f"The evaluation left no verdict of this rule: {uri} does not exist.")
    try:
        verdict = json.loads(body)
        status, details = verdict["RuleEvaluationStatus"], verdict["StatusDetails"]
        if status not in RULES_DONE or not isinstance(details, str):
            raise ValueError(f"RuleEvaluationStatus {status!r}, StatusDetails {details!r}")
    except (ValueError, KeyError, TypeError) as error:
        return _error(rule, f"{uri} is not a verdict ({error!r}): {body[:100]!r}")
    return {"RuleConfigurationName": rule, "RuleEvaluationStatus": status, "StatusDetails": details}


def _error(rule: str, details: str) -> dict[str, str]:
    return {"RuleConfigurationName": rule, "RuleEvaluationStatus": "Error", "StatusDetails": details}
