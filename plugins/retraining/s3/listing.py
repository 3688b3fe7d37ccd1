"""What lies below an S3 prefix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def list_keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    """All keys under a prefix, in no particular order."""
    return (key for key, _ in list_sizes(s3, bucket, prefix))


def list_sizes(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
    """All keys under a prefix, in no particular order, with the bytes of their objects."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from ((entry["Key"], entry["Size"]) for entry in page.get("Contents", []))


def list_folders(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    """The prefixes one level below a prefix, each with its last slash, in no particular order."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
        yield from (entry["Prefix"] for entry in page.get("CommonPrefixes", []))
