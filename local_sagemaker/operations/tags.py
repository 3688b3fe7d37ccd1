"""Tags of any resource, addressed by its ARN."""

from __future__ import annotations

from typing import Any

from local_sagemaker.platform import Platform
from local_sagemaker.state.store import Record
from local_sagemaker.wire.errors import validation


def list_tags(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    record = _find(platform, request["ResourceArn"])
    return {"Tags": record.internal.get("tags", [])}


def add_tags(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    record = _find(platform, request["ResourceArn"])

    def change(record: Record) -> None:
        tags = {tag["Key"]: tag for tag in record.internal.get("tags", [])}
        tags |= {tag["Key"]: tag for tag in request["Tags"]}
        record.internal["tags"] = list(tags.values())

    return {"Tags": platform.store.update(record.kind, record.name, change).internal["tags"]}


def delete_tags(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    record = _find(platform, request["ResourceArn"])

    def change(record: Record) -> None:
        kept = [tag for tag in record.internal.get("tags", []) if tag["Key"] not in request["TagKeys"]]
        record.internal["tags"] = kept

    platform.store.update(record.kind, record.name, change)
    return {}


def _find(platform: Platform, arn: str) -> Record:
    kind, _, name = arn.rpartition(":")[2].partition("/")
    # ARNs are lower-cased and names are not, so names are compared without case.
    for record in platform.store.list(kind):
        if record.name.lower() == name.lower():
            return record
    raise validation(f"Could not find resource with ARN {arn}.")
