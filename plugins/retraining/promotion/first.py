"""Is "there is no champion yet" true? A first promotion is compared with nothing, so the claim is checked."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import is_missing
from retraining.plan import Plan
from retraining.release.served import describe_endpoint


class UncomparedPromotion(ValueError):
    """A candidate would serve without having been compared with what serves now, and nobody said so."""


def signs_of_a_champion(sagemaker: Any, plan: Plan) -> list[str]:
    """What SageMaker knows that speaks against a first promotion; empty when nothing does."""
    found = []
    if endpoint := describe_endpoint(sagemaker, plan.endpoint):
        found.append(f"endpoint {plan.endpoint} is {endpoint['EndpointStatus']} on {endpoint['EndpointConfigName']}")
    if package := _approved_package(sagemaker, plan.model_package_group):
        found.append(f"model package {package} is Approved")
    return found


def _approved_package(sagemaker: Any, group: str) -> str | None:
    try:
        newest = sagemaker.list_model_packages(
            ModelPackageGroupName=group,
            ModelApprovalStatus="Approved",
            SortBy="CreationTime",
            SortOrder="Descending",
            MaxResults=1,
        )["ModelPackageSummaryList"]
    except ClientError as error:
        # The first run makes the group.
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        if is_missing(code, message) or "does not exist" in message:
            return None
        raise
    return str(newest[0]["ModelPackageArn"]) if newest else None
