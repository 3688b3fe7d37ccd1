"""A person's answer, kept for the tasks that go by it."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import DownstreamTasksSkipped

from retraining.operators.approval import OptionalApprovalOperator
from retraining.promotion.approval import person, rejects
from tests.plugins.task_run import context


@pytest.mark.parametrize(("option", "rejected"), [("Approve", False), ("Reject", True)])
def test_an_answer_is_kept_whatever_it_is(option: str, rejected: bool) -> None:
    with DAG("asks"):
        approve = OptionalApprovalOperator(task_id="approve", subject="Let it serve?", defaults="Reject")
        register = OptionalApprovalOperator(task_id="register", subject="Really?", defaults="Reject")
        approve >> register
    asked = context() | {"task": approve}
    event = {
        "chosen_options": [option], "params_input": {}, "responded_at": datetime(2026, 11, 29, tzinfo=UTC),
        "responded_by_user": {"id": "1", "name": "ada"},
    }  # fmt: skip
    with pytest.raises(DownstreamTasksSkipped) if rejected else nullcontext():
        approve.execute_complete(asked, event)
    kept = asked["ti"].pushed["return_value"]
    assert (rejects(kept), person(kept)) == (rejected, "ada")
