"""A checked file of weights to S3, under a name with its digest: never overwritten, never uploaded twice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

from retraining.dataset.sources.archived import is_archived
from retraining.pretrained.weights_file import WeightsFile

MISSING = ("404", "NoSuchKey", "NotFound")


class TargetError(ValueError):
    """There is no such place in S3."""


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Where the weights are now."""

    uri: str
    uploaded: bool
    """False when they were there already."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A recipe's folder in a bucket, read from s3://bucket or s3://bucket/folder."""

    bucket: str
    folder: str

    @classmethod
    def of(cls, uri: str) -> Target:
        place = urlparse(uri)
        if place.scheme != "s3" or not place.netloc:
            raise TargetError(f"{uri}: must look like s3://bucket/recipe, where the recipe's other objects lie.")
        return cls(bucket=place.netloc, folder=place.path.strip("/").removesuffix("pretrained").strip("/"))


def stage(weights: WeightsFile, name: str, target: Target, s3: Any) -> Staged:
    """Upload to <folder>/pretrained/<name>-<digest>.<suffix>."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.") or "weights"
    key = f"{target.folder}/pretrained/{plain}-{weights.digest[:16]}{weights.path.suffix}".lstrip("/")
    uri = f"s3://{target.bucket}/{key}"
    if _stored_bytes(s3, target.bucket, key) == weights.path.stat().st_size:
        return Staged(uri=uri, uploaded=False)
    s3.upload_file(str(weights.path), target.bucket, key)
    return Staged(uri=uri, uploaded=True)


def require_staged(uri: str, s3: Any) -> None:
    """TargetError when a job could not read this object: it would find out minutes later, and be paid for."""
    from botocore.exceptions import ClientError

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        found = _head(s3, bucket, key)
        why = None if found and found["ContentLength"] else "there is no such object"
        if found and is_archived(found):
            why = "S3 keeps it in an archive (Glacier), where no job can read it; restore it (aws s3api restore-object)"
    except ClientError as error:
        why = f"it cannot be read ({error.response['Error']['Code']})"
    if why:
        raise TargetError(
            f"pretrained = {uri}: {why}. `python -m retraining.pretrained FILE s3://{bucket}/…` puts one there and "
            "prints the line for the recipe."
        )


def _stored_bytes(s3: Any, bucket: str, key: str) -> int | None:
    found = _head(s3, bucket, key)
    return int(found["ContentLength"]) if found else None


def _head(s3: Any, bucket: str, key: str) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        return dict(s3.head_object(Bucket=bucket, Key=key))
    except ClientError as error:
        if error.response["Error"]["Code"] in MISSING:
            return None
        raise
