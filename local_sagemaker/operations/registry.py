"""The model registry: groups of model packages and their versions.

Versioned packages only. A version's key in the store is `<group>/<version>` in lower case, as in its ARN, so that a
version is found by its ARN; groups whose names differ only in case are therefore one group.
"""

from __future__ import annotations

import time
from typing import Any

from local_sagemaker.hosting import serving
from local_sagemaker.hosting.serving import MODEL_PACKAGE
from local_sagemaker.operations import listing
from local_sagemaker.platform import Platform
from local_sagemaker.state.store import AlreadyExistsError, Record
from local_sagemaker.wire.errors import ApiError, validation

GROUP = "model-package-group"

_UPDATED = ("ModelApprovalStatus", "ApprovalDescription", "InferenceSpecification", "SourceUri", "ModelLifeCycle")


def create_model_package_group(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    name = request["ModelPackageGroupName"]
    arn = platform.settings.arn(GROUP, name)
    describe = {key: value for key, value in request.items() if key != "Tags"}
    describe |= {
        "ModelPackageGroupArn": arn,
        "ModelPackageGroupStatus": "Completed",
        "CreationTime": time.time(),
        "CreatedBy": {},
    }
    try:
        platform.store.insert(GROUP, name.lower(), describe, {"tags": request.get("Tags", []), "last_version": 0})
    except AlreadyExistsError:
        raise validation(f"Model Package Group already exists: {arn}") from None
    return {"ModelPackageGroupArn": arn}


def describe_model_package_group(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return _find_group(platform, request).describe


def list_model_package_groups(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return listing.page(
        platform.store.list(GROUP), request, member="ModelPackageGroupSummaryList", summary=_group_summary
    )


def delete_model_package_group(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    group = _find_group(platform, request)
    versions = len(platform.store.list(MODEL_PACKAGE, parent=group.name))
    if versions:
        raise ApiError(
            "ConflictException",
            f"Model Package Group {group.describe['ModelPackageGroupArn']} still has {versions} model packages; "
            "delete them first.",
        )
    platform.store.delete(GROUP, group.name)
    return {}


def create_model_package(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """A new version of a group. The same ClientToken again answers with the version it made the first time."""
    if "ModelPackageGroupName" not in request or "ModelPackageName" in request:
        raise validation(
            "Give ModelPackageGroupName and no ModelPackageName: local_sagemaker keeps versioned packages only."
        )
    created: list[Record] = []

    def change(group: Record) -> None:
        # Inside the group's update, so that versions are unique and a token makes one version under concurrency.
        known = _by_token(platform, group, request.get("ClientToken"))
        if known is None:
            group.internal["last_version"] += 1
            known = _insert(platform, group, request)
        created.append(known)

    platform.store.update(GROUP, _find_group(platform, request).name, change)
    return {"ModelPackageArn": created[0].describe["ModelPackageArn"]}


def describe_model_package(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return _find(platform, request["ModelPackageName"]).describe


def list_model_packages(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    parent = _group_key(request["ModelPackageGroupName"]) if "ModelPackageGroupName" in request else None
    records = platform.store.list(MODEL_PACKAGE, parent=parent, status=request.get("ModelApprovalStatus"))
    if request.get("ModelPackageType", "Both" if parent else "Unversioned") == "Unversioned":
        records = []  # without a group, AWS lists unversioned packages unless told otherwise
    return listing.page(
        records,
        request,
        member="ModelPackageSummaryList",
        summary=_summary,
        sort_keys={"Name": lambda record: (record.parent, record.describe["ModelPackageVersion"])},
    )


def update_model_package(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    found = _find(platform, request["ModelPackageArn"])

    def change(record: Record) -> None:
        describe = record.describe
        describe |= {name: request[name] for name in _UPDATED if name in request}
        properties = describe.pop("CustomerMetadataProperties", {}) | request.get("CustomerMetadataProperties", {})
        for name in request.get("CustomerMetadataPropertiesToRemove", []):
            properties.pop(name, None)
        if properties:
            describe["CustomerMetadataProperties"] = properties
        describe["LastModifiedTime"] = time.time()

    record = platform.store.update(MODEL_PACKAGE, found.name, change)
    return {"ModelPackageArn": record.describe["ModelPackageArn"]}


def delete_model_package(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """Its version number is never given again."""
    platform.store.delete(MODEL_PACKAGE, _find(platform, request["ModelPackageName"]).name)
    return {}


def _insert(platform: Platform, group: Record, request: dict[str, Any]) -> Record:
    name, version = group.describe["ModelPackageGroupName"], group.internal["last_version"]
    describe = {key: value for key, value in request.items() if key not in ("Tags", "ClientToken")}
    describe |= {
        "ModelPackageName": name,
        "ModelPackageGroupName": name,
        "ModelPackageVersion": version,
        "ModelPackageArn": platform.settings.arn(MODEL_PACKAGE, f"{name}/{version}"),
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
        "ModelApprovalStatus": request.get("ModelApprovalStatus", "PendingManualApproval"),
        "CertifyForMarketplace": request.get("CertifyForMarketplace", False),
        "CreationTime": time.time(),
    }
    internal = {"tags": request.get("Tags", []), "token": request.get("ClientToken")}
    return platform.store.insert(MODEL_PACKAGE, f"{group.name}/{version}", describe, internal, parent=group.name)


def _by_token(platform: Platform, group: Record, token: str | None) -> Record | None:
    if token is None:
        return None
    versions = platform.store.list(MODEL_PACKAGE, parent=group.name)
    return next((record for record in versions if record.internal["token"] == token), None)


def _group_key(arn_or_name: str) -> str:
    return arn_or_name.rpartition("/")[2].lower()


def _find_group(platform: Platform, request: dict[str, Any]) -> Record:
    name = request["ModelPackageGroupName"]
    record = platform.store.get(GROUP, _group_key(name))
    if record is None:
        raise validation(f"Model Package Group {platform.settings.arn(GROUP, _group_key(name))} does not exist.")
    return record


def _find(platform: Platform, arn_or_name: str) -> Record:
    record = platform.store.get(MODEL_PACKAGE, serving.package_key(arn_or_name))
    if record is None:
        raise validation(f"ModelPackage {arn_or_name} does not exist.")
    return record


def _group_summary(record: Record) -> dict[str, Any]:
    return {key: value for key, value in record.describe.items() if key != "CreatedBy"}


def _summary(record: Record) -> dict[str, Any]:
    members = (
        "ModelPackageGroupName",
        "ModelPackageVersion",
        "ModelPackageArn",
        "ModelPackageDescription",
        "ModelPackageStatus",
        "ModelApprovalStatus",
        "CreationTime",
    )
    return {name: record.describe[name] for name in members if name in record.describe}
