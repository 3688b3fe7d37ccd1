"""The model registry: the versions in model package groups, and packages without a group.

A package's key in the store is the last part of its ARN: `<group>/<version>` or `<name>`, in lower case, so that it is
found by its ARN; groups whose names differ only in case are therefore one group. A package is Completed at once:
nothing here validates it, and a ValidationSpecification is refused.

Not verified on AWS: the wording of most refusals, that an approval status of an unversioned package is left out, and
that the versions of a group that is not there cannot be listed.
"""

from __future__ import annotations

import time
from typing import Any

from local_sagemaker.hosting import served_model
from local_sagemaker.hosting.served_model import MODEL_PACKAGE
from local_sagemaker.operations import listing, package_groups
from local_sagemaker.operations.package_groups import TOKEN
from local_sagemaker.settings import Settings
from local_sagemaker.state.store import AlreadyExistsError, Record, Store
from local_sagemaker.wire.errors import ApiError, validation

_MAX_PROPERTIES = 50
_MAX_ADDITIONAL = 15
_UPDATED = (
    "ApprovalDescription",
    "InferenceSpecification",
    "ModelApprovalStatus",
    "ModelLifeCycle",
    "ModelPackageRegistrationType",
    "SourceUri",
)
_BATCH = (
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "CreationTime",
    "InferenceSpecification",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "ModelPackageRegistrationType",
)
_SUMMARY = (
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "ModelLifeCycle",
    "ModelPackageRegistrationType",
    "CreationTime",
)


def create_model_package(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    """A group's next version, or a package without versions. The same ClientToken again changes nothing."""
    if ("ModelPackageGroupName" in request) == ("ModelPackageName" in request):
        raise validation(
            "Give either ModelPackageGroupName, for the next version of a group, or ModelPackageName, for a package "
            "without versions."
        )
    if "ValidationSpecification" in request:
        raise validation("ValidationSpecification: local_sagemaker does not validate model packages; leave it out.")
    if "ModelPackageGroupName" in request:
        return {"ModelPackageArn": _create_version(store, settings, request)}
    _check_unversioned(request)
    return {"ModelPackageArn": _create_unversioned(store, settings, request)}


def describe_model_package(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    """By ARN, by name, or by `group/version`."""
    describe = find(store, request["ModelPackageName"]).describe
    if request.get("IncludedData") == "MetadataOnly" and "ModelCard" in describe:
        card = {key: value for key, value in describe["ModelCard"].items() if key != "ModelCardContent"}
        return describe | {"ModelCard": card}
    return describe


def batch_describe_model_package(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    found: dict[str, Any] = {}
    errors: dict[str, Any] = {}
    for arn in request["ModelPackageArnList"]:
        try:
            found[arn] = _members(find(store, arn), _BATCH)
        except ApiError as error:
            errors[arn] = {"ErrorCode": error.code, "ErrorResponse": error.message}
    return {"ModelPackageSummaries": found, "BatchDescribeModelPackageErrorMap": errors}


def list_model_packages(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    """Of a group its versions, without one the unversioned packages, unless ModelPackageType says otherwise.

    A group that is not there, or not of this account and region, is refused: no versions would look like the same.
    """
    parent = None
    if "ModelPackageGroupName" in request:
        parent = package_groups.find(store, settings, request["ModelPackageGroupName"]).name
    records = store.list(MODEL_PACKAGE, parent=parent, status=request.get("ModelApprovalStatus"))
    match request.get("ModelPackageType", "Versioned" if parent else "Unversioned"):
        case "Versioned":
            records = records.where("parent IS NOT NULL")
        case "Unversioned":
            records = records.where("parent IS NULL")
    return listing.page(
        records,
        request,
        member="ModelPackageSummaryList",
        summary=_summary,
        sort_keys={
            "Name": lambda record: (record.parent or record.name, record.describe.get("ModelPackageVersion", 0))
        },
    )


def update_model_package(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    """What is not in the request stays. Properties are added or replaced, then those to remove are removed."""
    found = find(store, request["ModelPackageArn"])

    def change(record: Record) -> None:
        describe = record.describe
        if "ModelApprovalStatus" in request and record.parent is None:
            raise validation(f"ModelApprovalStatus: {describe['ModelPackageArn']} has no versions, so it needs none.")
        describe |= {name: request[name] for name in _UPDATED if name in request}
        if "ModelCard" in request:
            describe["ModelCard"] = describe.get("ModelCard", {}) | request["ModelCard"]
        _change_properties(describe, request)
        _add_specifications(describe, request.get("AdditionalInferenceSpecificationsToAdd", []))
        describe["LastModifiedTime"] = time.time()

    try:
        record = store.update(MODEL_PACKAGE, found.name, change)
    except KeyError:  # deleted in this very moment
        record = find(store, request["ModelPackageArn"])
    return {"ModelPackageArn": record.describe["ModelPackageArn"]}


def delete_model_package(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    """Its version number is never given again. Models made from it stay, and what serves them goes on."""
    store.delete(MODEL_PACKAGE, find(store, request["ModelPackageName"]).name)
    return {}


def _create_version(store: Store, settings: Settings, request: dict[str, Any]) -> str:
    if request.get("Tags"):
        raise validation(
            "Tags: a version has the tags of its model package group; tag the group, and leave them out here."
        )
    created: list[str] = []

    def change(group: Record) -> None:
        # All in one transaction: each version has its number once, and a token makes one version.
        token = f"{group.name}/{request['ClientToken']}" if "ClientToken" in request else None
        known = store.get(TOKEN, token) if token else None
        if known is None:
            version = group.internal["last_version"] = group.internal["last_version"] + 1
            name = group.describe["ModelPackageGroupName"]
            described = {"ModelPackageGroupName": name, "ModelPackageVersion": version}
            described["ModelApprovalStatus"] = request.get("ModelApprovalStatus", "PendingManualApproval")
            arn = _insert(store, settings, request, f"{name}/{version}", name, described, parent=group.name)
            if token:
                store.insert(TOKEN, token, {"ModelPackageArn": arn}, parent=group.name)
            created.append(arn)
        else:
            created.append(known.describe["ModelPackageArn"])

    package_groups.change(store, settings, request, change)
    return created[0]


def _create_unversioned(store: Store, settings: Settings, request: dict[str, Any]) -> str:
    """Duplicates are told from repetitions by their ClientToken."""
    if "InferenceSpecification" not in request and "SourceAlgorithmSpecification" not in request:
        raise validation("A package without versions needs an InferenceSpecification or SourceAlgorithmSpecification.")
    name = request["ModelPackageName"]
    described = {key: value for key, value in request.items() if key != "ModelApprovalStatus"}
    try:
        return _insert(store, settings, described, name, name, {})
    except AlreadyExistsError:
        record = find(store, name)
    arn: str = record.describe["ModelPackageArn"]
    if "ClientToken" in request and record.internal["token"] == request["ClientToken"]:
        return arn
    raise validation(f"Cannot create already existing model package {arn}.")


def _insert(
    store: Store,
    settings: Settings,
    request: dict[str, Any],
    path: str,
    name: str,
    described: dict[str, Any],
    parent: str | None = None,
) -> str:
    """Returns the ARN. Raises AlreadyExistsError."""
    arn = settings.arn(MODEL_PACKAGE, path)
    describe = {key: value for key, value in request.items() if key not in ("Tags", "ClientToken")}
    describe |= {
        "ModelPackageName": name,
        "ModelPackageArn": arn,
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
        "CertifyForMarketplace": request.get("CertifyForMarketplace", False),
        "CreationTime": time.time(),
        **described,
    }
    _check_unique(describe.get("AdditionalInferenceSpecifications", []))
    internal = {"tags": request.get("Tags", []), "token": request.get("ClientToken")}
    store.insert(MODEL_PACKAGE, path.lower(), describe, internal, parent=parent)
    return arn


def _change_properties(describe: dict[str, Any], request: dict[str, Any]) -> None:
    properties = describe.pop("CustomerMetadataProperties", {}) | request.get("CustomerMetadataProperties", {})
    for name in request.get("CustomerMetadataPropertiesToRemove", []):
        properties.pop(name, None)
    if len(properties) > _MAX_PROPERTIES:
        raise validation(
            f"CustomerMetadataProperties: there would be {len(properties)}; {_MAX_PROPERTIES} is the most."
        )
    if properties:
        describe["CustomerMetadataProperties"] = properties


def _add_specifications(describe: dict[str, Any], added: list[dict[str, Any]]) -> None:
    if not added:
        return
    specifications = [*describe.get("AdditionalInferenceSpecifications", []), *added]
    if len(specifications) > _MAX_ADDITIONAL:
        raise validation(
            f"AdditionalInferenceSpecifications: there would be {len(specifications)}; {_MAX_ADDITIONAL} is the most."
        )
    _check_unique(specifications)
    describe["AdditionalInferenceSpecifications"] = specifications


def _check_unversioned(request: dict[str, Any]) -> None:
    """A package without versions must say where it may run, as AWS documents, and brings no environment."""
    specification = request.get("InferenceSpecification", {})
    if any("Environment" in container for container in specification.get("Containers", [])):
        raise validation(
            "1 validation errors detected:Environment variable map cannot be specified when using non-versioned "
            "ModelPackages"
        )
    for member in ("SupportedRealtimeInferenceInstanceTypes", "SupportedTransformInstanceTypes"):
        if specification and not specification.get(member):
            raise validation(f"InferenceSpecification.{member} is required for a model package without versions.")


def _check_unique(specifications: list[dict[str, Any]]) -> None:
    names = [specification["Name"] for specification in specifications]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise validation(f"AdditionalInferenceSpecifications: the name {twice[0]} is given twice.")


def find(store: Store, arn_or_name: str) -> Record:
    """Raises a ValidationException, also for an ARN of another account or region."""
    record = store.get(MODEL_PACKAGE, served_model.package_key(arn_or_name))
    if record is None or (":" in arn_or_name and arn_or_name.lower() != record.describe["ModelPackageArn"]):
        raise validation(f"ModelPackage {arn_or_name} does not exist.")
    return record


def _members(record: Record, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: record.describe[name] for name in names if name in record.describe}


def _summary(record: Record) -> dict[str, Any]:
    name = {} if record.parent else {"ModelPackageName": record.describe["ModelPackageName"]}
    return name | _members(record, _SUMMARY)
