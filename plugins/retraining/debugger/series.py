"""The numbers that rules judged where they found an issue, for the run's page: from what `evaluate_rules.py` leaves.

Rules that SageMaker itself judged leave none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from retraining.s3.documents import MISSING

MAX_BYTES = 1024**2
"""Of a verdict; one with its series has about 10 kB, and one with a matrix of a thousand classes more than this."""
MOST_POINTS = 400
"""Twice what is written."""


def read_series(
    s3: Any, bucket: str, prefix: str, rules: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any] | None]:
    """Rule that found an issue → {"tensor", "what", "steps", "values", "threshold", "step"}.

    None where a rule follows no number; without those that left no verdict below `prefix`.
    """
    found = {}
    for rule in (str(rule["rule"]) for rule in rules if rule["status"] == "IssuesFound"):
        verdict = _verdict(s3, bucket, f"{prefix}/{rule}/verdict.json")
        if verdict is not None:
            found[rule] = _series(verdict)
    return found


def _verdict(s3: Any, bucket: str, key: str) -> dict[str, Any] | None:
    try:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read(MAX_BYTES + 1)
        verdict = json.loads(body) if len(body) <= MAX_BYTES else None
    except ClientError as error:
        if error.response["Error"]["Code"] in MISSING:
            return None
        raise
    except (ValueError, RecursionError):
        return None
    return verdict if isinstance(verdict, dict) else None


def _series(verdict: Mapping[str, Any]) -> dict[str, Any] | None:
    series, evidence = verdict.get("Series"), verdict.get("Evidence")
    if not isinstance(series, dict) or not isinstance(evidence, dict):
        return None
    kept: dict[str, Any] = {name: series.get(name) for name in ("tensor", "what", "steps", "values", "threshold")}
    for points in (kept["steps"], kept["values"]):
        if not isinstance(points, list) or not 0 < len(points) <= MOST_POINTS:
            return None
    return kept | {"step": evidence.get("step")} if len(kept["steps"]) == len(kept["values"]) else None
