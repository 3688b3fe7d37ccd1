"""Which images of a source are nearly the same, with what was found out before: thumbs lie in S3 beside the memory."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retraining.dataset.near.thumbs import Thumbs
from retraining.dataset.pictures.thumb import BYTES
from retraining.dataset.pictures.verdict import Rejected, VerifiedImage
from retraining.dataset.sources.memory import ENDING, Forgotten, Memory, Near
from retraining.s3.documents import read_document

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

RULES = "near-2"
"""Those of `near`, which takes numpy to import: clusters found by other rules are looked for anew."""
MAX_COMPARED = 200_000
"""Images; beyond, comparing all with all takes a quarter of an hour and more."""


def thumbs_key(memory_key: str) -> str:
    """Beside the memory of a source."""
    return memory_key.removesuffix(ENDING) + ".thumbs.npy"


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What was found, and the thumbs to keep for the next time; None where nothing is new."""

    near: Near | None
    rows: Path | None = None
    """A .npy file, (N,) of an identity's first 20 letters and the thumb; of 100,000 images, 100 MB."""

    @property
    def clusters(self) -> list[list[str]]:
        """Identities of images that are nearly the same."""
        return self.near.clusters if self.near else []


def likeness(
    verdicts: Iterable[VerifiedImage | Rejected], thumbs: Thumbs, memory: Memory, s3: Any, bucket: str, key: str
) -> Likeness:
    """Clusters among all verified images, if there are not too many. `key`: where an earlier sync kept its thumbs.

    What is to be kept lies beside the file of `thumbs`.

    Raises Forgotten where one cannot be had.
    """
    identities = sorted(
        {verdict.identity for verdict in map(thumbs.taken, verdicts) if isinstance(verdict, VerifiedImage)}
    )
    of = hashlib.sha256("\n".join((RULES, *identities)).encode()).hexdigest()[:20]
    if memory.near and memory.near.of == of:
        return Likeness(near=memory.near)
    if len(identities) > MAX_COMPARED:
        log.warning("%d images: near-duplicates are looked for among %d at most.", len(identities), MAX_COMPARED)
        return Likeness(near=None)
    rows = _rows(identities, thumbs, s3, bucket, key)
    return Likeness(
        near=Near(of=of, clusters=_found(identities, rows)), rows=_on_disk(rows, thumbs.path.with_suffix(".npy"))
    )


def keep_thumbs(alike: Likeness, s3: Any, bucket: str, key: str) -> None:
    """For the next sync, where there is something new."""
    if alike.rows is not None:
        with alike.rows.open("rb") as file:
            s3.put_object(Bucket=bucket, Key=key, Body=file, ContentType="application/octet-stream")


def _on_disk(rows: NDArray[np.void], path: Path) -> Path:
    """So that making and uploading the version has the memory."""
    import numpy as np

    np.save(path, rows, allow_pickle=False)
    return path


def _rows(identities: list[str], thumbs: Thumbs, s3: Any, bucket: str, key: str) -> NDArray[np.void]:
    import numpy as np

    rows = np.zeros(len(identities), [("identity", "S20"), ("thumb", "u1", (BYTES,))])
    rows["identity"] = [identity[:20].encode() for identity in identities]
    known: Mapping[bytes, Any] | None = None
    for identity, row in zip(identities, rows["thumb"], strict=True):
        body = thumbs.get(identity)
        if body is None:
            known = _recall(s3, bucket, key) if known is None else known
            before = known.get(identity[:20].encode())
            body = b"" if before is None else before.tobytes()
        if len(body) != BYTES:
            raise Forgotten("the thumbs of images that were not read again are gone")
        row[:] = np.frombuffer(body, np.uint8)
    return rows


def _found(identities: list[str], rows: NDArray[np.void]) -> list[list[str]]:
    from retraining.dataset.near.pairs import near_duplicates

    found = near_duplicates(rows["thumb"])
    log.info("Compared %d images: %d near-duplicates in %d clusters.", len(rows), sum(map(len, found)), len(found))
    return [[identities[place] for place in cluster] for cluster in found]


def _recall(s3: Any, bucket: str, key: str) -> Mapping[bytes, Any]:
    """Thumbs by the first 20 letters of an identity."""
    import numpy as np

    body, _ = read_document(s3, bucket, key)
    try:
        rows = np.load(io.BytesIO(body or b""), allow_pickle=False)
        return dict(zip(rows["identity"].tolist(), rows["thumb"], strict=True))
    except Exception as error:  # numpy raises nearly everything for strange headers
        log.warning("s3://%s/%s cannot be read: %s.", bucket, key, error)
        return {}
