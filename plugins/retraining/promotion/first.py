"""Is "there is no champion yet" true? A first promotion is compared with nothing, so the claim is checked."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import is_missing
from retraining.plan import Plan
from retraining.release.endpoint import describe_endpoint


class UncomparedPromotion(ValueError):
    """A candidate would serve without having been compared with what serves now, and nobody said so."""


def signs_of_a_champion(sagemaker: Any, plan: Plan) -> list[str]:
    """What SageMaker knows that speaks against a first promotion; empty when nothing does."""
    found = []
    if endpoint := describe_endpoint(sagemaker, plan.endpoint):
        found.append(f"endpoint {plan.endpoint} is {endpoint['EndpointStatus']} on {endpoint['EndpointConfigName']}")
    if package := _approved_package(sagemaker, plan):
        found.append(f"model package {package} is Approved")
    return found


def _approved_package(sagemaker: Any, plan: Plan) -> str | None:
    """The newest one whose artifact this deployment made: two deployments of an account share a recipe's group."""
    pages = sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=plan.model_package_group,
        ModelApprovalStatus="Approved",
        SortBy="CreationTime",
        SortOrder="Descending",
    )
    try:
        for summary in (summary for page in pages for summary in page["ModelPackageSummaryList"]):
            arn = str(summary["ModelPackageArn"])
            package = sagemaker.describe_model_package(ModelPackageName=arn)
            containers = package.get("InferenceSpecification", {}).get("Containers", ())
            if any(str(container.get("ModelDataUrl")).startswith(plan.uri("")) for container in containers):
                return arn
    except ClientError as error:
        # The first run makes the group.
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        if not (is_missing(code, message) or "does not exist" in message):
            raise
    return None
