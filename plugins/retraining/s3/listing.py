"""What lies below an S3 prefix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def list_keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    """All keys under a prefix, in no particular order."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (entry["Key"] for entry in page.get("Contents", []))
