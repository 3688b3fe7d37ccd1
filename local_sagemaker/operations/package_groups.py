"""The groups of the model registry: what a model's versions belong to.

A group's key in the store is its name in lower case, as in its ARN; names that differ only in case are one group.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from local_sagemaker.hosting.served_model import MODEL_PACKAGE
from local_sagemaker.operations import listing
from local_sagemaker.settings import Settings
from local_sagemaker.state.store import AlreadyExistsError, Record, Store
from local_sagemaker.wire.errors import ApiError, validation

KIND = "model-package-group"
TOKEN = "model-package-token"
"""Records of the ClientTokens that have made a version, below their group."""


def create_model_package_group(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    name = request["ModelPackageGroupName"]
    arn = settings.arn(KIND, name)
    describe = {key: value for key, value in request.items() if key != "Tags"}
    describe |= {
        "ModelPackageGroupArn": arn,
        "ModelPackageGroupStatus": "Completed",
        "CreationTime": time.time(),
        "CreatedBy": {},
    }
    try:
        store.insert(KIND, name.lower(), describe, {"tags": request.get("Tags", []), "last_version": 0})
    except AlreadyExistsError:
        raise validation(f"Model Package Group already exists: {arn}") from None
    return {"ModelPackageGroupArn": arn}


def describe_model_package_group(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    return find(store, settings, request["ModelPackageGroupName"]).describe


def list_model_package_groups(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    """There is one account, so CrossAccount shows none."""
    groups = store.list(KIND)
    if request.get("CrossAccountFilterOption") == "CrossAccount":
        groups = groups.where("FALSE")
    return listing.page(groups, request, member="ModelPackageGroupSummaryList", summary=_summary)


def delete_model_package_group(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    """Only when it is empty."""

    def edit(group: Record) -> None:
        if versions := len(store.list(MODEL_PACKAGE, parent=group.name)):
            raise ApiError(
                "ConflictException",
                f"Model Package Group {group.describe['ModelPackageGroupArn']} still has {versions} model packages; "
                "delete them first.",
            )
        for token in store.list(TOKEN, parent=group.name):
            store.delete(TOKEN, token.name)
        store.delete(KIND, group.name)

    change(store, settings, request, edit)
    return {}


def put_model_package_group_policy(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    """Kept and shown; there are no other accounts that it could let in."""
    try:
        policy = json.loads(request["ResourcePolicy"])
    except (ValueError, RecursionError):
        policy = None
    if not isinstance(policy, dict):
        raise validation("Invalid resource policy: it is not a JSON object.")

    def edit(group: Record) -> None:
        group.internal["policy"] = request["ResourcePolicy"]

    return {"ModelPackageGroupArn": change(store, settings, request, edit).describe["ModelPackageGroupArn"]}


def get_model_package_group_policy(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    group = find(store, settings, request["ModelPackageGroupName"])
    if "policy" not in group.internal:
        raise _no_policy(group)
    return {"ResourcePolicy": group.internal["policy"]}


def delete_model_package_group_policy(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    def edit(group: Record) -> None:
        if group.internal.pop("policy", None) is None:
            raise _no_policy(group)

    change(store, settings, request, edit)
    return {}


def key(arn_or_name: str) -> str:
    return arn_or_name.rpartition("/")[2].lower()


def find(store: Store, settings: Settings, arn_or_name: str) -> Record:
    """Raises a ValidationException, also for an ARN of another account, region or kind."""
    arn = settings.arn(KIND, key(arn_or_name))
    record = store.get(KIND, key(arn_or_name))
    if record is None or (":" in arn_or_name and arn_or_name.lower() != arn):
        raise validation(f"Model Package Group {arn_or_name if ':' in arn_or_name else arn} does not exist.")
    return record


def change(store: Store, settings: Settings, request: dict[str, Any], edit: Callable[[Record], None]) -> Record:
    group = find(store, settings, request["ModelPackageGroupName"])
    try:
        return store.update(KIND, group.name, edit)
    except KeyError:  # deleted in this very moment
        return find(store, settings, request["ModelPackageGroupName"])


def _no_policy(group: Record) -> ApiError:
    return validation(f"Model Package Group {group.describe['ModelPackageGroupArn']} has no resource policy.")


def _summary(record: Record) -> dict[str, Any]:
    members = (
        "ModelPackageGroupName",
        "ModelPackageGroupArn",
        "ModelPackageGroupDescription",
        "CreationTime",
        "ModelPackageGroupStatus",
        "ManagedConfiguration",
    )
    return {name: record.describe[name] for name in members if name in record.describe}
