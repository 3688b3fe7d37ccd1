"""Which images of a source are nearly the same, with what was found out before: thumbs lie in S3 beside the memory."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from retraining.dataset.memory import Memory, Near
from retraining.dataset.store import Forgotten
from retraining.dataset.thumb import BYTES
from retraining.dataset.verdict import Rejected, VerifiedImage
from retraining.s3.documents import read_document

log = logging.getLogger(__name__)

RULES = "near-1"
"""Those of `near`, which takes numpy to import: clusters found by other rules are looked for anew."""
MAX_COMPARED = 200_000
"""Images; beyond, comparing all with all takes a quarter of an hour and more."""


def thumbs_key(memory_key: str) -> str:
    """Beside the memory of a source."""
    return memory_key.replace(".jsonl.gz", ".thumbs.npy")


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What was found, and the thumbs to keep for the next time; None where nothing is new."""

    near: Near | None
    thumbs: bytes | None = None

    @property
    def clusters(self) -> list[list[str]]:
        """Identities of images that are nearly the same."""
        return self.near.clusters if self.near else []


def likeness(verdicts: Iterable[VerifiedImage | Rejected], memory: Memory, s3: Any, bucket: str, key: str) -> Likeness:
    """Clusters among all verified images, if there are not too many. `key`: where an earlier sync kept its thumbs.

    Raises Forgotten where one cannot be had.
    """
    fresh: dict[str, str] = {}
    for verdict in verdicts:
        if isinstance(verdict, VerifiedImage):
            fresh[verdict.identity] = fresh.get(verdict.identity) or verdict.thumb
    identities = sorted(fresh)
    of = hashlib.sha256("\n".join((RULES, *identities)).encode()).hexdigest()[:20]
    if memory.near and memory.near.of == of:
        return Likeness(near=memory.near)
    if len(identities) > MAX_COMPARED:
        log.warning("%d images: near-duplicates are looked for among %d at most.", len(identities), MAX_COMPARED)
        return Likeness(near=None)
    bodies = _bodies(identities, fresh, s3, bucket, key)
    clusters = _found(identities, bodies)
    return Likeness(near=Near(of=of, clusters=clusters), thumbs=_packed(identities, bodies))


def _bodies(identities: list[str], fresh: Mapping[str, str], s3: Any, bucket: str, key: str) -> list[bytes]:
    known = {} if all(fresh.values()) else _recall(s3, bucket, key)
    bodies = [base64.b64decode(fresh[each]) if fresh[each] else known.get(each[:20], b"") for each in identities]
    if not all(len(body) == BYTES for body in bodies):
        raise Forgotten("the thumbs of images that were not read again are gone")
    return bodies


def _found(identities: list[str], bodies: list[bytes]) -> list[list[str]]:
    from retraining.dataset.near import as_thumbs, near_duplicates

    found = near_duplicates(as_thumbs(bodies)) if bodies else []
    log.info("Compared %d images: %d near-duplicates in %d clusters.", len(bodies), sum(map(len, found)), len(found))
    return [[identities[place] for place in cluster] for cluster in found]


def _recall(s3: Any, bucket: str, key: str) -> dict[str, bytes]:
    import numpy as np

    body, _ = read_document(s3, bucket, key)
    try:
        rows = np.load(io.BytesIO(body or b""), allow_pickle=False)
        return {bytes(row["identity"]).decode(): row["thumb"].tobytes() for row in rows}
    except Exception as error:  # numpy raises nearly everything for strange headers
        log.warning("s3://%s/%s cannot be read: %s.", bucket, key, error)
        return {}


def _packed(identities: list[str], bodies: list[bytes]) -> bytes:
    import numpy as np

    rows = np.zeros(len(identities), [("identity", "S20"), ("thumb", "u1", (BYTES,))])
    for row, identity, body in zip(rows, identities, bodies, strict=True):
        row["identity"], row["thumb"] = identity[:20].encode(), np.frombuffer(body, np.uint8)
    out = io.BytesIO()
    np.save(out, rows, allow_pickle=False)
    return out.getvalue()
