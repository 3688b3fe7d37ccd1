"""The tags of what this package made, by which one deployment's things are told from another's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import is_missing
from retraining.plan import Plan


def tags_of(sagemaker: Any, arn: str) -> list[dict[str, str]]:
    pages = sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
    return [tag for page in pages for tag in page["Tags"]]


def is_ours(sagemaker: Any, plan: Plan, arn: str) -> bool:
    """Whether this recipe of this deployment made it. What was made before there were such tags is nobody's."""
    tags = tags_of(sagemaker, arn)
    return all(tag in tags for tag in plan.deployment_tags)


def foreign_bucket(sagemaker: Any, plan: Plan, endpoint: Mapping[str, Any]) -> tuple[str, str] | None:
    """The bucket of the other deployment that made the configuration which an endpoint serves, and that one's ARN.

    None for one of this deployment, and where no tag tells: it was made by hand. `endpoint`: DescribeEndpoint's answer.
    """
    try:
        config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    except ClientError as error:
        if is_missing(error):  # deleted by hand; the endpoint serves on
            return None
        raise
    arn = str(config["EndpointConfigArn"])
    buckets = [tag["Value"] for tag in tags_of(sagemaker, arn) if tag["Key"] == "retraining:bucket"]
    return (buckets[0], arn) if buckets and buckets[0] != plan.environment.bucket else None
