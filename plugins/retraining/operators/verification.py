"""The images of a sync, verified in a processing job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerProcessingOperator

from retraining.job_kinds import KINDS
from retraining.links import JOB_LINKS
from retraining.operators.durable import DurableJob


class VerificationOperator(DurableJob, SageMakerProcessingOperator):
    """A processing job → where its verdicts are. An empty config skips the task: then the worker verifies."""

    operator_extra_links = JOB_LINKS  # the stock operator has none
    kind = KINDS["processing"]

    def limit_seconds(self) -> int:
        return int(self.config["StoppingCondition"]["MaxRuntimeInSeconds"])

    def result(self, job: Mapping[str, Any]) -> dict[str, Any]:
        (output,) = job["ProcessingOutputConfig"]["Outputs"]
        return {
            "name": job["ProcessingJobName"],
            "arn": job["ProcessingJobArn"],
            # Each job has a folder of its own in it: one that failed may have left something too.
            "output_uri": f"{output['S3Output']['S3Uri']}/{job['ProcessingJobName']}/",
        }
