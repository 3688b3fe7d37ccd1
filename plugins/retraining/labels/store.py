"""Where decisions and proposals lie in S3: `<recipe>/data/labels.csv`, and `labels.csv` beside each version."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from retraining.labels.sheet import Decision, SheetError, decided, merged, read
from retraining.plan import Plan
from retraining.s3.documents import CHANGED, read_document

TRIES = 5


class DecisionsChanged(RuntimeError):
    """Others decide at the same time."""


def read_decisions(s3: Any, plan: Plan) -> list[Decision]:
    """What people have decided so far; SheetError where the sheet cannot be gone by."""
    return _read(s3, plan)[0]


def decide(s3: Any, plan: Plan, new: list[Decision]) -> list[Decision]:
    """Add decisions, the newer one counting; returns all. DecisionsChanged where others kept writing meanwhile."""
    for _ in range(TRIES):
        before, etag = _read(s3, plan)
        after = merged(before, new)
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        try:
            s3.put_object(
                Bucket=plan.environment.bucket,
                Key=plan.decisions_key,
                Body=decided(after).encode(),
                ContentType="text/csv; charset=utf-8",
                **condition,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] not in CHANGED:
                raise
        else:
            return after
    raise DecisionsChanged(f"{plan.uri(plan.decisions_key)} is being changed by others; try again.")


def _read(s3: Any, plan: Plan) -> tuple[list[Decision], str | None]:
    body, etag = read_document(s3, plan.environment.bucket, plan.decisions_key)
    return (read(body, plan.uri(plan.decisions_key)) if body is not None else []), etag


__all__ = ["DecisionsChanged", "SheetError", "decide", "read_decisions"]
