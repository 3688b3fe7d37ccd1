"""champion.json: which run serves and what it was made from. Changed by compare-and-swap, after the smoke test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError


class ChampionMoved(RuntimeError):
    """Somebody else promoted a model while this run was under way."""


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The pointer as it was read. `etag` is what it must still be when it is replaced. None before the first run."""

    document: dict[str, Any] | None
    etag: str | None


def read_champion(s3: Any, bucket: str, key: str) -> Champion:
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return Champion(document=None, etag=None)
        raise
    return Champion(document=json.loads(answer["Body"].read()), etag=answer["ETag"])


def replace_champion(s3: Any, bucket: str, key: str, before: Champion, document: dict[str, Any]) -> None:
    """Make `document` the champion, unless the pointer is no longer what it was.

    Repeating it with the same document is harmless: a retry after a lost answer finds its own work and is content.
    """
    condition = {"IfMatch": before.etag} if before.etag else {"IfNoneMatch": "*"}
    body = json.dumps(document, indent=1, sort_keys=True).encode()
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", **condition)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
            raise
        now = read_champion(s3, bucket, key)
        if now.document != document:
            serving = (now.document or {}).get("run_name")
            raise ChampionMoved(
                f"s3://{bucket}/{key} was changed by run {serving} while this run was under way; it is left as it is."
            ) from None
