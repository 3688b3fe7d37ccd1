"""The tasks of rollback_<recipe>: which model is to serve again, and that it does."""

from __future__ import annotations

from typing import Any

from retraining.release.rollback import Rollback
from retraining.run import Run


def choose(run: Run) -> str:
    """The run to go back to, decided once: an attempt that follows a killed one goes to the same."""
    return _rollback(run).choose(run.params.get("to") or "")


def go_back(run: Run) -> dict[str, Any]:
    """A retry goes on from where the attempt before it was killed."""
    person = getattr(run.context["dag_run"], "triggering_user_name", None) or "somebody"
    return _rollback(run).go_back(run.fact("choose"), reason=run.params["reason"], by=person)


def _rollback(run: Run) -> Rollback:
    return Rollback(s3=run.s3, sagemaker=run.sagemaker, runtime=run.runtime, plan=run.plan)
