"""The approval of a run's model package: pending until its release has proved itself, and what a person said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import DENIED, is_missing
from retraining.plan import Plan

ROLLED_BACK = "Rolled back to "
"""What our own rejections of a former champion begin with: they, unlike a person's, may be undone."""
TAKEN_BACK = "The release of "
"""What our own rejection of a candidate begins with whose release failed."""


class PackageRejected(ValueError):
    """Somebody rejected the model package in the registry, or deleted it there before its model was promoted."""


def approved_packages(sagemaker: Any, plan: Plan) -> Iterator[dict[str, Any]]:
    """Those whose artifact this deployment made, the newest first: two of an account share a recipe's group."""
    return _packages(sagemaker, plan, {"ModelApprovalStatus": "Approved"})


def usable_packages(sagemaker: Any, plan: Plan) -> Iterator[dict[str, Any]]:
    """Those of this deployment that are Approved or may come to be, the newest first."""
    packages = _packages(sagemaker, plan, {})
    return (package for package in packages if package.get("ModelApprovalStatus") != "Rejected")


def _packages(sagemaker: Any, plan: Plan, which: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    pages = sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=plan.model_package_group, SortBy="CreationTime", SortOrder="Descending", **which
    )
    try:
        for summary in (summary for page in pages for summary in page["ModelPackageSummaryList"]):
            package = _describe(sagemaker, str(summary["ModelPackageArn"]))
            if package and artifact_of(package).startswith(plan.uri("")):
                yield package
    except ClientError as error:
        # The first run makes the group.
        if not is_missing(error):
            raise


def _describe(sagemaker: Any, arn: str) -> dict[str, Any] | None:
    """None where it was deleted."""
    try:
        return dict(sagemaker.describe_model_package(ModelPackageName=arn))
    except ClientError as error:
        if not is_missing(error):
            raise
        return None


def artifact_of(package: Mapping[str, Any]) -> str:
    """The address of what it is made of; a package of ours has one container."""
    containers = package.get("InferenceSpecification", {}).get("Containers") or [{}]
    return str(containers[0].get("ModelDataUrl"))


def require_not_rejected(sagemaker: Any, arn: str) -> None:
    """A person's word in the registry, at any moment before the promotion, keeps a model from serving."""
    package = _describe(sagemaker, arn)
    if package is None:
        raise PackageRejected(
            f"Model package {arn} was deleted from the registry, so its model is not deployed. Trigger a new run."
        )
    if why := _why_rejected(package):
        raise PackageRejected(
            f"Model package {arn} is Rejected ({why}), so its model is not deployed. "
            "Trigger a new run, with force if data, code and recipe are the same."
        )


def persons_rejection(sagemaker: Any, arn: str) -> str | None:
    """Why a person rejected the package; None where nobody did, or where it only was rolled back."""
    said = rejection(sagemaker, arn)
    return None if said and said.startswith(ROLLED_BACK) else said


def candidates_rejection(sagemaker: Any, arn: str) -> str | None:
    """Why a person rejected a candidate's package; None where nobody did, or where it was deleted."""
    said = _why_rejected(_describe(sagemaker, arn) or {})
    return None if said and said.startswith((ROLLED_BACK, TAKEN_BACK)) else said


def rejection(sagemaker: Any, arn: str) -> str | None:
    """Why the package is rejected, whoever did it; None where it is not."""
    return _why_rejected(sagemaker.describe_model_package(ModelPackageName=arn))


def _why_rejected(package: Mapping[str, Any]) -> str | None:
    said = str(package.get("ApprovalDescription") or "no reason given")
    return said if package.get("ModelApprovalStatus") == "Rejected" else None


def approve_again(sagemaker: Any, arn: str, reason: str) -> None:
    """Also what was rolled back; PackageRejected where a person has said no."""
    if said := persons_rejection(sagemaker, arn):
        raise PackageRejected(f"Model package {arn} is Rejected ({said}), so its model does not serve again.")
    _set(sagemaker, arn, "Approved", reason)


def approve(sagemaker: Any, arn: str, reason: str) -> None:
    require_not_rejected(sagemaker, arn)
    _set(sagemaker, arn, "Approved", reason)


def reject(sagemaker: Any, arn: str, reason: str) -> None:
    """What was rejected before keeps its reason."""
    if sagemaker.describe_model_package(ModelPackageName=arn).get("ModelApprovalStatus") != "Rejected":
        _set(sagemaker, arn, "Rejected", reason)


def told(tell: Callable[[], None]) -> str:
    """Tells the registry; what kept it from hearing, for lack of the package or of a right, empty when it heard.

    For what must not fail by it: what is served matters more.
    """
    try:
        tell()
    except ClientError as error:
        if not (is_missing(error) or error.response["Error"]["Code"] in DENIED):
            raise
        return f"The registry was not told: {error.response['Error']['Message']}"
    return ""


def _set(sagemaker: Any, arn: str, status: str, reason: str) -> None:
    # ApprovalDescription is one line of at most 1,024 characters.
    description = " ".join(reason.split())[:1024]
    sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status, ApprovalDescription=description)
