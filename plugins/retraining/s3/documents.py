"""A JSON document in S3 that several runs change: written only while it still is what was read (compare-and-swap)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

MISSING = ("NoSuchKey", "404")
CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def read_document(s3: Any, bucket: str, key: str) -> tuple[bytes | None, str | None]:
    """Its text, and the ETag that it must still have to be replaced; (None, None) when there is no object."""
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in MISSING:
            return None, None
        raise
    return answer["Body"].read(), answer["ETag"]


def write_document(s3: Any, bucket: str, key: str, document: Mapping[str, Any], etag: str | None) -> bool:
    """False when it is no longer the one with this ETag; None: when there is one."""
    body = json.dumps(document, indent=1, sort_keys=True).encode()
    return write_body(s3, bucket, key, body, "application/json", etag)


def write_body(s3: Any, bucket: str, key: str, body: bytes, content_type: str, etag: str | None) -> bool:
    """The same, of text that is no JSON."""
    condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type, **condition)
    except ClientError as error:
        if error.response["Error"]["Code"] in CHANGED:
            return False
        raise
    return True
