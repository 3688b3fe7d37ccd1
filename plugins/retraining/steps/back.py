"""The tasks of rollback_<recipe>: which model is to serve again, and that it does."""

from __future__ import annotations

from typing import Any

from retraining.release.drill import Drill
from retraining.release.rollback import Rollback
from retraining.run import Run


def choose(run: Run) -> str:
    """The run to go back to, decided once: an attempt that follows a killed one goes to the same."""
    to = run.params.get("to") or ""
    return Drill(rollback=_rollback(run)).choose(to) if run.params.get("drill") else _rollback(run).choose(to)


def go_back(run: Run) -> dict[str, Any]:
    """A retry goes on from where the attempt before it was killed."""
    person = getattr(run.context["dag_run"], "triggering_user_name", None) or "somebody"
    to, why = run.fact("choose"), {"reason": run.params["reason"], "by": person}
    if run.params.get("drill"):
        return Drill(rollback=_rollback(run)).perform(to, **why, once=run.plan.run_name)
    return _rollback(run).go_back(to, **why)


def _rollback(run: Run) -> Rollback:
    return Rollback(s3=run.s3, sagemaker=run.sagemaker, runtime=run.runtime, scaling=run.scaling, plan=run.plan)
