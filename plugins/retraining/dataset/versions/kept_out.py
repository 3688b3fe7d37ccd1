"""What a sync kept out, to be looked at: kept-out.json beside the version, the first of its files with small pictures.

48 files of all codes, of which 64 MiB are read and a minute is spent at most. Pictures are made where a decoder may be
ended, once for a version: what an earlier sync has made of the same bytes is taken from its document.
"""

from __future__ import annotations

import base64
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from retraining.dataset.pictures.glimpse import RULES
from retraining.dataset.pictures.pool import look_at
from retraining.dataset.versions.store import Store
from retraining.dataset.versions.version import Quarantined, Version, as_json

log = logging.getLogger(__name__)

SHOWN = 48
MAX_READ_BYTES = 64 * 2**20
"""Of all files together."""
FIRST = ("LABEL_CONFLICT", "NEAR_LABEL_CONFLICT")
"""What a person has to decide; the other codes come in the order of the alphabet."""
UNSEEN = {"DECODER_DIED", "TOO_MUCH_MEMORY", "TOO_SLOW"}
"""What has ended its decoder once is not tried again."""


def keep_kept_out(version: Version, store: Store, scratch: Path) -> None:
    """For people alone: what goes wrong with the pictures is told, and decides nothing."""
    if not version.quarantined:
        return
    key = f"versions/{version.fingerprint}/kept-out.json"
    shown = first(version.quarantined)
    pictures = _known(store.read(key))
    unseen = {entry.sha256: entry for entry in shown if entry.key and entry.sha256 not in pictures}
    try:
        pictures |= dict(zip(unseen, _pictures(list(unseen.values()), store, scratch), strict=True))
    except Exception:
        log.exception("The small pictures of what was kept out cannot be made.")
    store.put_changed({key: as_json(document(version.quarantined, shown, pictures))})


def first(quarantined: Sequence[Quarantined]) -> list[Quarantined]:
    """48 files at most, as many of each code as there is room for; those of one conflict beside each other."""
    by_code: dict[str, list[Quarantined]] = {}
    for entry in sorted(quarantined, key=_place):
        by_code.setdefault(entry.code, []).append(entry)
    rounds = zip_longest(*by_code.values())
    return sorted(islice((entry for each in rounds for entry in each if entry), SHOWN), key=_place)


def document(
    quarantined: Sequence[Quarantined], shown: Sequence[Quarantined], pictures: Mapping[str | None, str | None]
) -> dict[str, Any]:
    """{"rules", "codes": code → how many, "files": [{"name", "class", "code", "detail", "sha256", "picture"}]}.

    A picture is a `data:` address, or None.
    """
    codes = Counter(entry.code for entry in sorted(quarantined, key=_place))
    files = [{**entry.as_dict(), "sha256": entry.sha256, "picture": pictures.get(entry.sha256)} for entry in shown]
    return {"format": 1, "rules": RULES, "codes": dict(codes), "files": files}


def _place(entry: Quarantined) -> tuple[bool, str, str, str]:
    return entry.code not in FIRST, entry.code, entry.detail, entry.file.name


def _known(body: bytes | None) -> dict[str | None, str | None]:
    """SHA-256 → picture, of what an earlier sync has made by the same rules."""
    try:
        told = json.loads(body or b"{}")
        files = told["files"] if told.get("rules") == RULES else ()
        return {file["sha256"]: file["picture"] for file in files if file["sha256"]}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _pictures(entries: Sequence[Quarantined], store: Store, scratch: Path) -> Iterator[str | None]:
    tried = [entry for entry in entries if entry.code not in UNSEEN]
    seen = dict(zip((entry.sha256 for entry in tried), look_at(_paths(tried, store, scratch), scratch), strict=True))
    for entry in entries:
        picture = seen.get(entry.sha256)
        yield f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}" if picture else None


def _paths(entries: Sequence[Quarantined], store: Store, scratch: Path) -> Iterator[Path | None]:
    """Each file, from S3 where it did not have to be fetched; None for one that has more bytes than are left."""
    left = MAX_READ_BYTES
    for entry in entries:
        path = entry.file.path
        if not path.is_file():
            path = scratch / f"kept-out-{entry.sha256}"
            path.write_bytes(store.read(str(entry.key), left) or b"")
        size = path.stat().st_size
        if 0 < size <= left:
            left -= size
            yield path
        else:
            yield None
