"""Which failures deserve another try, and what a failed task leaves behind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from botocore.exceptions import ParamValidationError

from retraining.promotion.champion import ChampionMoved

# An error in what we were given is as true the second time. All else (throttling, a network, a restart) may pass.
FINAL_ERRORS: list[type[BaseException] | str] = [ValueError, LookupError, ParamValidationError, ChampionMoved]


def remember_failure(context: Any) -> None:
    """on_failure_callback: leave the reason where the report finds it."""
    context["ti"].xcom_push(key="failure", value=str(context.get("exception") or "no reason given")[:4000])


RETRIES: dict[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=15),
    "retry_policy": ExceptionRetryPolicy(rules=[RetryRule(exception=FINAL_ERRORS, action=RetryAction.FAIL)]),
    "on_failure_callback": remember_failure,
}
