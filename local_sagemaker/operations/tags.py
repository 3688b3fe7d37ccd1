"""Tags of any resource, addressed by its ARN.

Not verified on AWS, and refused here: one key twice in a request, and more than 50 tags in all.
"""

from __future__ import annotations

from typing import Any

from local_sagemaker.operations import listing
from local_sagemaker.settings import Settings
from local_sagemaker.state.store import Record, Store
from local_sagemaker.wire.errors import validation

_MAX_TAGS = 50

Tags = list[dict[str, str]]


def list_tags(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    """Pages go by key, so that a tag that is added or removed in between moves no other."""
    tags = sorted(
        _find(store, settings, request["ResourceArn"]).internal.get("tags", []), key=lambda tag: str(tag["Key"])
    )
    limit, at = request.get("MaxResults", _MAX_TAGS), listing.place(request, "Tags")
    rest = [tag for tag in tags if at is None or tag["Key"] > at[0]]
    more = listing.token(request, "Tags", [rest[limit - 1]["Key"], 0]) if len(rest) > limit else None
    return {"Tags": rest[:limit]} | ({"NextToken": more} if more else {})


def add_tags(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    """A key that is there gets the new value."""
    record = _find(store, settings, request["ResourceArn"])

    def change(record: Record) -> None:
        tags = {tag["Key"]: tag for tag in record.internal.get("tags", [])}
        tags |= {tag["Key"]: tag for tag in request["Tags"]}
        if len(tags) > _MAX_TAGS:
            raise validation(f"{request['ResourceArn']} would have {len(tags)} tags; {_MAX_TAGS} is the most.")
        record.internal["tags"] = list(tags.values())

    return {"Tags": store.update(record.kind, record.name, change).internal["tags"]}


def delete_tags(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    record = _find(store, settings, request["ResourceArn"])

    def change(record: Record) -> None:
        kept = [tag for tag in record.internal.get("tags", []) if tag["Key"] not in request["TagKeys"]]
        record.internal["tags"] = kept

    store.update(record.kind, record.name, change)
    return {}


def check(tags: Tags) -> None:
    """What AWS asks of the tags of any request beyond the service model. Raises a ValidationException."""
    keys = [tag["Key"] for tag in tags]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise validation(f"Duplicate tag keys: {', '.join(twice)}")
    if reserved := [key for key in keys if key.lower().startswith("aws:")]:
        raise validation(f"aws: prefixed tag key names are not allowed for external use: {', '.join(reserved)}")


def _find(store: Store, settings: Settings, arn: str) -> Record:
    """The record of an ARN of this account and region, with the name in any capitals."""
    *scope, resource = arn.split(":", 5)
    kind, _, name = resource.partition("/")
    settings = settings
    here = scope == ["arn", "aws", "sagemaker", settings.region, settings.account]
    record = store.find(kind, name) if here else None
    if record is None:
        raise validation(f"Could not find resource with ARN {arn}.")
    return record
