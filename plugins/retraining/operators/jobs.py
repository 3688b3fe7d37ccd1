"""Tuning and batch transform jobs: durable, deferrable, and returning small records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerTransformOperator,
    SageMakerTuningOperator,
)
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ClientError

from retraining.job_kinds import KINDS, TRANSFORM_LIMIT_SECONDS, already_exists
from retraining.links import JOB_LINKS
from retraining.operators.durable import DurableJob, log_tail
from retraining.retries import is_weather


class TuningOperator(DurableJob, SageMakerTuningOperator):
    """A hyperparameter tuning job → its best trial and that trial's full hyperparameters.

    One that was stopped, in SageMaker's console or by its time limit, is as good as the trials that it has ended: the
    best of them is trained once more and judged like any other. Its record has {"stopped": how far it came}.
    """

    kind = KINDS["tuning"]

    def limit_seconds(self) -> int:
        return int(self.config["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxRuntimeInSeconds"])

    def _send(self, request: dict[str, Any]) -> None:
        """Where SageMaker refuses a warm start, for a reason not known here, the search begins from nothing."""
        try:
            super()._send(request)
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
            refused = code in ("ValidationException", "ResourceNotFound") and not already_exists(error)
            if not (refused and "WarmStartConfig" in request):
                raise
            self.log.warning("SageMaker refuses the warm start; the search begins from nothing: %s", message)
            super()._send({member: value for member, value in request.items() if member != "WarmStartConfig"})

    def ended_badly(self, context: Context, job: Mapping[str, Any]) -> dict[str, Any]:
        if self.kind.status(job) != "Stopped" or not _has_result(job):
            return super().ended_badly(context, job)
        stopped = _how_far(job)
        self.log.warning("Tuning job %s was stopped %s; it goes on with the best.", job[self.kind.name_key], stopped)
        return self.result(job) | {"stopped": stopped}

    def result(self, job: Mapping[str, Any]) -> dict[str, Any]:
        best = job.get("BestTrainingJob")
        if not best:
            raise AirflowFailException(self.failure(job))
        static = job["TrainingJobDefinition"]["StaticHyperParameters"]
        metric = best["FinalHyperParameterTuningJobObjectiveMetric"]
        return {
            "name": job["HyperParameterTuningJobName"],
            "arn": job["HyperParameterTuningJobArn"],
            "best": best["TrainingJobName"],
            "objective": {metric["MetricName"]: metric["Value"]},
            "warm_start": _warm_start(job),
            "hyperparameters": {
                key: value
                for key, value in (static | best["TunedHyperParameters"]).items()
                if not key.startswith(("sagemaker_", "_tuning"))
            },
        }

    def failure(self, job: Mapping[str, Any]) -> str:
        """A tuning job fails when no trial gave a number, so the trials hold the reasons; its own is told without."""
        try:
            answer = self.hook.conn.list_training_jobs_for_hyper_parameter_tuning_job(
                HyperParameterTuningJobName=job["HyperParameterTuningJobName"], StatusEquals="Failed", MaxResults=3
            )
        except ClientError as error:
            if is_weather(error):  # another attempt finds the same job, and may hear of its trials
                raise
            code = error.response["Error"].get("Code")
            return f"{super().failure(job)}\n  Its trials, which hold the reasons, cannot be listed ({code}): {error}"
        reasons = [
            f"\n  trial {trial['TrainingJobName']}: {trial.get('FailureReason', 'no reason given')}"
            + "".join(f"\n    {line}" for line in log_tail(KINDS["training"], trial["TrainingJobName"])[-8:])
            for trial in answer["TrainingJobSummaries"]
        ]
        return super().failure(job) + "".join(reasons)


class TransformOperator(DurableJob, SageMakerTransformOperator):
    """A batch transform job → where its answers are. An empty config skips the task."""

    operator_extra_links = JOB_LINKS  # the stock operator has a link to the console only
    kind = KINDS["transform"]

    def limit_seconds(self) -> int:
        return TRANSFORM_LIMIT_SECONDS

    def result(self, job: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "name": job["TransformJobName"],
            "arn": job["TransformJobArn"],
            "model": job["ModelName"],
            "input_uri": job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"],
            "output_uri": job["TransformOutput"]["S3OutputPath"],
        }


def _has_result(job: Mapping[str, Any]) -> bool:
    return "FinalHyperParameterTuningJobObjectiveMetric" in (job.get("BestTrainingJob") or {})


def _how_far(job: Mapping[str, Any]) -> str:
    """In words, such as "after 3 of 8 trials"."""
    limit = job["HyperParameterTuningJobConfig"]["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    ended = job["TrainingJobStatusCounters"].get("Completed", 0)
    return f"after {ended} of {limit} trials" if limit else f"after {ended} trials"


def _warm_start(job: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the job really began from."""
    if not (config := job.get("WarmStartConfig")):
        return None
    parents = [parent["HyperParameterTuningJobName"] for parent in config["ParentHyperParameterTuningJobs"]]
    return {"type": config["WarmStartType"], "parents": parents}
