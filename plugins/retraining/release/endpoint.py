"""An endpoint as SageMaker describes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import is_missing


def describe_endpoint(sagemaker: Any, name: str) -> dict[str, Any] | None:
    """DescribeEndpoint's answer; None where there is no endpoint of this name."""
    try:
        return dict(sagemaker.describe_endpoint(EndpointName=name))
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def pending_config(description: Mapping[str, Any]) -> str | None:
    """The endpoint configuration that an update leads to; None where none is going on."""
    return (description.get("PendingDeploymentSummary") or {}).get("EndpointConfigName")


def is_baking(description: Mapping[str, Any]) -> bool:
    """Whether an update is going on whose fresh fleet has requests and is watched; not while it is taken back."""
    if description.get("EndpointStatus") == "RollingBack":  # the fleet keeps its last status until it is gone
        return False
    pending = description.get("PendingDeploymentSummary") or {}
    notes = [note for variant in pending.get("ProductionVariants", ()) for note in variant.get("VariantStatus", ())]
    return any(note["Status"] == "Baking" for note in notes)
