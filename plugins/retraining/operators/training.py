"""The final training: with SageMaker Debugger, without it where the account may not have it, or stopped by a rule."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ClientError

from retraining.debugger.memory import remember_refusal
from retraining.debugger.mode import OTHER_MODES, is_refusal, mode_of
from retraining.debugger.rule_verdicts import RuleVerdict, rule_verdicts, stopping_rules
from retraining.job_kinds import KINDS, RULES_DONE, rule_statuses
from retraining.operators.durable import DurableJob
from retraining.run import client
from retraining.triggers import SageMakerJobTrigger

# The rule that stopped a training is already ending when the training has ended.
STOPPING_RULE_LIMIT_SECONDS = 120


class TrainingOperator(DurableJob, SageMakerTrainingOperator):
    """A training job → where its model is, its final metrics, and how it was really watched.

    `refused`, rendered to a dict, says what to do when SageMaker refuses the job because of Debugger: {"Request": the
    same job without it, or empty where that is not wanted; "Bucket", "Account": where and about whom to remember it}.
    """

    kind = KINDS["training"]
    template_fields: Sequence[str] = (*SageMakerTrainingOperator.template_fields, "refused")

    def __init__(self, *, refused: Callable[..., dict[str, Any]] | dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.refused: Any = refused

    def limit_seconds(self) -> int:
        stopping = self.config["StoppingCondition"]
        return int(stopping.get("MaxWaitTimeInSeconds") or stopping["MaxRuntimeInSeconds"])

    def result(self, job: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "name": job["TrainingJobName"],
            "arn": job["TrainingJobArn"],
            "model_data_url": job["ModelArtifacts"]["S3ModelArtifacts"],
            "metrics": {metric["MetricName"]: metric["Value"] for metric in job.get("FinalMetricDataList", [])},
            # Read from the job, so that an attempt that only found it knows it too.
            "debugger": mode_of(job),
        }

    # --- refused because of Debugger --------------------------------------------------------------------------------

    def _send(self, request: dict[str, Any]) -> None:
        try:
            super()._send(request)
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
            if mode_of(request) != "managed" or not is_refusal(code, message):
                raise
            self._send_without_debugger(request, f"{code}: {message}")

    def _send_without_debugger(self, request: Mapping[str, Any], reason: str) -> None:
        """Remembered before it is sent: whatever happens in between, the next attempt comes here again."""
        refused = self.refused or {}
        if refused.get("Account"):
            remember_refusal(client("s3"), refused["Bucket"], refused["Account"], reason)
        if not refused.get("Request"):
            raise AirflowFailException(
                f"SageMaker refuses training job {request[self.kind.name_key]} because of Debugger, and the recipe "
                f"insists on it (debugger.mode: managed). It says: {reason}\n{OTHER_MODES}, and trigger a new run."
            )
        self.log.warning(
            "SAGEMAKER DEBUGGER IS NOT AVAILABLE to this account. This training goes on in the mode self_hosted: the "
            "same rules and report, evaluated by this package after the training, which none of them can stop. "
            "SageMaker said: %s",
            reason,
        )
        super()._send(dict(refused["Request"]) | {self.kind.name_key: request[self.kind.name_key]})

    # --- stopped by a rule ------------------------------------------------------------------------------------------

    def ended_badly(self, context: Context, job: Mapping[str, Any]) -> dict[str, Any]:
        """A stopped training first waits, not for long, for the verdict of the rule that may have stopped it."""
        statuses = rule_statuses(job)
        unfinished = [rule for rule in stopping_rules(job) if statuses.get(rule) not in RULES_DONE]
        if self.kind.status(job) == "Stopped" and unfinished and not _culprits(job):
            self.log.info("The training was stopped; waiting for the verdict of %s.", ", ".join(unfinished))
            deadline = time.time() + STOPPING_RULE_LIMIT_SECONDS
            self.defer(
                trigger=SageMakerJobTrigger(
                    kind="rules",
                    name=job[self.kind.name_key],
                    deadline=deadline,
                    poll_seconds=self.poll_seconds,
                    aws_conn_id=self.aws_conn_id or "",
                    region_name=self.region_name,
                ),
                method_name="rules_ended",
                timeout=timedelta(seconds=STOPPING_RULE_LIMIT_SECONDS + 600),
            )
        return self._give_up(context, job)

    def rules_ended(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """After the deadline too: then the training was stopped, and it is not known by whom."""
        assert event is not None
        return self._give_up(context, self._described(event["name"]))

    def _give_up(self, context: Context, job: Mapping[str, Any]) -> dict[str, Any]:
        # For the report: debugger_verdict does not run after a training that failed.
        ended = [verdict for verdict in rule_verdicts(job, {}) if rule_statuses(job)[verdict.rule] in RULES_DONE]
        context["ti"].xcom_push(key="verdicts", value=[verdict.as_dict() for verdict in ended])
        raise AirflowFailException(self.failure(job))

    def failure(self, job: Mapping[str, Any]) -> str:
        culprits = _culprits(job)
        if not culprits:
            return super().failure(job)
        found = "".join(f"\n    {verdict}" for verdict in culprits)
        return (
            f"Training job {job[self.kind.name_key]} was stopped by Debugger, because of an issue that "
            f"{' and '.join(verdict.rule for verdict in culprits)} found:{found}\n"
            "Fix the cause and trigger a new run. Without the rule in the recipe's debugger.stop_training a training "
            "goes on to its end and its policy in debugger.rules decides."
        )


def _culprits(job: Mapping[str, Any]) -> list[RuleVerdict]:
    """The rules that stopped a training: those that were to stop it and found an issue."""
    if job["TrainingJobStatus"] != "Stopped":
        return []
    stopping = stopping_rules(job)
    return [
        verdict for verdict in rule_verdicts(job, {}) if verdict.rule in stopping and verdict.status == "IssuesFound"
    ]
