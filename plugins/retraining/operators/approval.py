"""A person's word before a model is registered, when the recipe or the trigger form asks for it."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException


class OptionalApprovalOperator(ApprovalOperator):
    """Waits for Approve or Reject when the run's `approval` parameter is true, else is skipped and nothing waits.

    Reject skips everything after it, whatever its trigger rule.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(ignore_downstream_trigger_rules=True, **kwargs)

    def execute(self, context: Context) -> None:
        if not context["params"]["approval"]:
            raise AirflowSkipException("No approval is asked for in this run.")
        super().execute(context)
