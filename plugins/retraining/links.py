"""From a task in Airflow's UI to its SageMaker job: the AWS console, or the page of the local server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from retraining.environment import Environment

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-eusc": "console.amazonaws-eusc.eu",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
"""By partition, those that are public."""
CONSOLE_PAGES = {
    "tuning": "hyper-tuning-jobs",
    "training": "jobs",
    "processing": "processing-jobs",
    "transform": "transform-jobs",
    "endpoint": "endpoints",
}


def job_url(kind: str, name: str, environment: Environment) -> str:
    """The page of one job, for a person; empty where none is known."""
    if environment.local:
        pages = environment.jobs_url or environment.endpoint_url
        return f"{pages.rstrip('/')}/jobs/{kind}/{quote(name)}" if pages else ""
    region, console = environment.region, CONSOLES.get(environment.partition)
    if console is None:
        return ""
    return f"https://{region}.{console}/sagemaker/home?region={region}#/{CONSOLE_PAGES[kind]}/{quote(name)}"


class SageMakerJobLink(BaseOperatorLink):
    """Resolved in the worker from what the task pushed about its job, and kept with the run."""

    name = "SageMaker job"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        from airflow.sdk.bases.xcom import BaseXCom

        from retraining.run import here

        job = BaseXCom.get_value(ti_key=ti_key, key="job")
        return job_url(job["kind"], job["name"], here()) if job else ""


JOB_LINKS: Any = (SageMakerJobLink(),)
