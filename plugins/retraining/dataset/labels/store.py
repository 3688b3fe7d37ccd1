"""Where decisions and proposals lie in S3: `<recipe>/data/labels.csv`, and `labels.csv` beside each version."""

from __future__ import annotations

from typing import Any

from retraining.dataset.labels.sheet import Decision, decided, merged, read
from retraining.plan import Plan
from retraining.s3.documents import read_document, write_body

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
        body, key = decided(after).encode(), plan.decisions_key
        if write_body(s3, plan.environment.bucket, key, body, "text/csv; charset=utf-8", etag):
            return after
    raise DecisionsChanged(f"{plan.uri(plan.decisions_key)} is being changed by others; try again.")


def _read(s3: Any, plan: Plan) -> tuple[list[Decision], str | None]:
    body, etag = read_document(s3, plan.environment.bucket, plan.decisions_key)
    return (read(body, plan.uri(plan.decisions_key)) if body is not None else []), etag
