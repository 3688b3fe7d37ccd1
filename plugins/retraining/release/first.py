"""Is "there is no champion yet" true? A first promotion is compared with nothing, so the claim is checked."""

from __future__ import annotations

from typing import Any

from retraining.plan import Plan
from retraining.release.endpoint import describe_endpoint
from retraining.release.package import approved_packages


class UncomparedPromotion(ValueError):
    """A candidate would serve without having been compared with what serves now, and nobody said so."""


def signs_of_a_champion(sagemaker: Any, plan: Plan) -> list[str]:
    """What SageMaker knows that speaks against a first promotion; empty when nothing does."""
    found = []
    if endpoint := describe_endpoint(sagemaker, plan.endpoint):
        found.append(f"endpoint {plan.endpoint} is {endpoint['EndpointStatus']} on {endpoint['EndpointConfigName']}")
    if package := next(approved_packages(sagemaker, plan), None):
        found.append(f"model package {package['ModelPackageArn']} is Approved")
    return found
