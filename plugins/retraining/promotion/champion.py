"""champion.json: which run serves and what it was made from. Changed by compare-and-swap, after the smoke test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from retraining.shared_document import read_document, write_document


class ChampionMoved(RuntimeError):
    """Somebody else promoted a model while this run was under way."""


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The pointer as it was read. `etag` is what it must still be when it is replaced. None before the first run."""

    document: dict[str, Any] | None
    etag: str | None


def read_champion(s3: Any, bucket: str, key: str) -> Champion:
    text, etag = read_document(s3, bucket, key)
    return Champion(document=None if text is None else json.loads(text), etag=etag)


def replace_champion(s3: Any, bucket: str, key: str, before: Champion, document: dict[str, Any]) -> None:
    """Make `document` the champion, unless the pointer is no longer what it was.

    Repeating it with the same document is harmless: a retry after a lost answer finds its own work and is content.
    """
    if not write_document(s3, bucket, key, document, before.etag):
        now = read_champion(s3, bucket, key)
        if now.document != document:
            serving = (now.document or {}).get("run_name")
            raise ChampionMoved(
                f"s3://{bucket}/{key} was changed by run {serving} while this run was under way; it is left as it is."
            )
