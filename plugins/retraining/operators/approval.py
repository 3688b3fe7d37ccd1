"""A person's word before a model is registered, when the recipe or the trigger form asks for it."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
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

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        # Reject ends by an exception, after which Airflow keeps no result; the report and `register` go by the answer.
        context["ti"].xcom_push(key="return_value", value=HITLOperator.execute_complete(self, context, event))
        return super().execute_complete(context, event)
