"""The rules of a self-hosted training, evaluated in a processing job of our own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerProcessingOperator
from airflow.sdk import Context

from retraining.job_kinds import KINDS
from retraining.links import JOB_LINKS
from retraining.operators.durable import DurableJob
from retraining.run import client


class RuleEvaluationOperator(DurableJob, SageMakerProcessingOperator):
    """A processing job → where its verdicts are. An empty config skips the task.

    `documents`, rendered to a dict, is what the job reads beside the training's output: {S3 URI: JSON document}. A job
    that fails is no reason to fail a run, as with managed rules: every rule without a verdict is then an Error.
    """

    operator_extra_links = JOB_LINKS  # the stock operator has none
    kind = KINDS["processing"]
    template_fields: Sequence[str] = (*SageMakerProcessingOperator.template_fields, "documents")

    def __init__(self, *, documents: Callable[..., dict[str, Any]] | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.documents: Any = documents

    def limit_seconds(self) -> int:
        return int(self.config["StoppingCondition"]["MaxRuntimeInSeconds"])

    def result(self, job: Mapping[str, Any]) -> dict[str, Any]:
        (output,) = job["ProcessingOutputConfig"]["Outputs"]
        return {
            "name": job["ProcessingJobName"],
            "arn": job["ProcessingJobArn"],
            "output_uri": output["S3Output"]["S3Uri"],
            "problem": "",
        }

    def ended_badly(self, context: Context, job: Mapping[str, Any]) -> dict[str, Any]:
        problem = self.failure(job)
        self.log.error("The rules could not be evaluated. %s", problem)
        return self.result(job) | {"problem": problem.splitlines()[0]}

    def _send(self, request: dict[str, Any]) -> None:
        s3 = client("s3")
        for uri, document in self.documents.items():
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            body = json.dumps(document, indent=1).encode()
            s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
        super()._send(request)
