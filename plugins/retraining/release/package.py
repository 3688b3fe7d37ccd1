"""The approval of a run's model package: pending until its release has proved itself, and what a person said of it."""

from __future__ import annotations

from typing import Any


class PackageRejected(ValueError):
    """Somebody rejected the model package in the registry."""


def require_not_rejected(sagemaker: Any, arn: str) -> None:
    """A person's word in the registry, at any moment before the promotion, keeps a model from serving."""
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    if package.get("ModelApprovalStatus") == "Rejected":
        why = package.get("ApprovalDescription") or "no reason given"
        raise PackageRejected(
            f"Model package {arn} is Rejected ({why}), so its model is not deployed. "
            "Trigger a new run, with force if data, code and recipe are the same."
        )


def approve(sagemaker: Any, arn: str, reason: str) -> None:
    require_not_rejected(sagemaker, arn)
    _set(sagemaker, arn, "Approved", reason)


def reject(sagemaker: Any, arn: str, reason: str) -> None:
    """What was rejected before keeps its reason."""
    if sagemaker.describe_model_package(ModelPackageName=arn).get("ModelApprovalStatus") != "Rejected":
        _set(sagemaker, arn, "Rejected", reason)


def _set(sagemaker: Any, arn: str, status: str, reason: str) -> None:
    # ApprovalDescription is one line of at most 1,024 characters.
    description = " ".join(reason.split())[:1024]
    sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status, ApprovalDescription=description)
