"""Waiting for Debugger: its rules end minutes after the training job they watch."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from retraining.debugger.rule_verdicts import rule_verdicts
from retraining.debugger.verdict_files import read_statuses
from retraining.environment import AWS_CONN_ID
from retraining.job_kinds import KINDS
from retraining.run import client
from retraining.triggers import SageMakerJobTrigger

# How long rules may take after the training job; on AWS they lag by minutes.
RULES_LIMIT_SECONDS = 1800


class DebuggerVerdictSensor(BaseSensorOperator):
    """Waits until every debug and profiler rule has ended, then lets the run go on or stops it.

    `config`, rendered to a dict: {"TrainingJobName": …, "Policies": {rule: "fail" | "warn" | "ignore"}, "Evaluation":
    None, or of a self-hosted training {"Output": the URI of its rules' output, "Rules": {status list: rules},
    "Problem": why there is none, if it failed}}. Returns the verdicts, which are of one form in both modes.
    """

    template_fields = ("config",)

    def __init__(self, *, config: Callable[..., dict[str, Any]], poll_seconds: float = 30, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config: Any = config
        self.poll_seconds = poll_seconds

    def execute(self, context: Context) -> list[dict[str, str]]:
        if evaluation := self.config["Evaluation"]:
            statuses = read_statuses(client("s3"), evaluation["Output"], evaluation["Rules"], evaluation["Problem"])
            return self._verdict(context, statuses)
        job = self._describe()
        if not KINDS["rules"].in_progress(job):
            return self._verdict(context, job)
        self.log.info("Waiting for the rules that watch %s.", self.config["TrainingJobName"])
        self.defer(
            trigger=SageMakerJobTrigger(
                kind="rules",
                name=self.config["TrainingJobName"],
                deadline=time.time() + RULES_LIMIT_SECONDS,
                poll_seconds=self.poll_seconds,
                aws_conn_id=AWS_CONN_ID,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=RULES_LIMIT_SECONDS + 600),
        )
        raise AssertionError("defer() does not return")

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> list[dict[str, str]]:
        """After the deadline too: a rule that has not ended by then counts as one that could not be evaluated."""
        return self._verdict(context, self._describe())

    def _describe(self) -> Any:
        return client("sagemaker").describe_training_job(TrainingJobName=self.config["TrainingJobName"])

    def _verdict(self, context: Context, job: Any) -> list[dict[str, str]]:
        verdicts = rule_verdicts(job, self.config["Policies"])
        for verdict in verdicts:
            (self.log.warning if verdict.warns or verdict.stops else self.log.info)("%s (%s)", verdict, verdict.policy)
        if not verdicts:
            self.log.info("No rule watches %s.", self.config["TrainingJobName"])
        # Pushed under its own key, because the report needs the verdicts most when this task fails.
        context["ti"].xcom_push(key="verdicts", value=[verdict.as_dict() for verdict in verdicts])
        if stopping := [str(verdict) for verdict in verdicts if verdict.stops]:
            raise AirflowFailException(
                f"Debugger stops this run: {'; '.join(stopping)}. "
                "The recipe's debugger.rules says 'fail' for this rule; 'warn' or 'ignore' would let the run go on."
            )
        return [verdict.as_dict() for verdict in verdicts]
