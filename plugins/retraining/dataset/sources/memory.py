"""What the last sync of a source found and stored, so that the next one reads only what changed.

It lies in S3 beside the versions, for any worker to go on from. Losing it costs time, never truth: a file is taken for
the same only by its stamp, an object is taken for stored only by the names here, of which a few are asked for.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from retraining.dataset.pictures.rules import rules
from retraining.dataset.pictures.verdict import Original, Rejected, VerifiedImage
from retraining.dataset.stamp import Stamp, may_have_changed_since
from retraining.s3.documents import read_document

log = logging.getLogger(__name__)

FORMAT = 1
ENDING = ".jsonl.gz"
MAX_BYTES = 2 * 1024**3
"""Unpacked; a million files take about 300 MB."""

ORIGINAL = tuple(each.name for each in fields(Original))

Verdict = VerifiedImage | Rejected


class Forgotten(Exception):
    """What was remembered of a sync does not hold: objects are gone, or files are wanted that were not fetched."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A source that changes as one: an archive, an address. All its names, so that it need not be opened."""

    stamp: Stamp
    names: list[str]
    empty: list[str]
    texts: dict[str, str] = field(default_factory=dict)
    """Of the tables that its classes were read from."""


@dataclass(frozen=True, kw_only=True)
class Near:
    """The near-duplicates of a set of images."""

    of: str
    """Digest of the set, and of how they were looked for."""
    clusters: list[list[str]]
    """Identities."""


@dataclass(kw_only=True)
class Memory:
    """Of one source. Empty where nothing is known."""

    taken_ns: int = 0
    """When the source was listed, before any file of it was read."""
    files: dict[str, tuple[Stamp, Verdict]] = field(default_factory=dict)
    """By the name that the source gives them, whatever bytes are in it."""
    stored: frozenset[str] = frozenset()
    """Keys below `<recipe>/data/` that are in the bucket."""
    whole: Whole | None = None
    near: Near | None = None

    def verdict(self, name: str, stamp: Stamp | None) -> Verdict | None:
        """Of a file that is still the one that was read; else None."""
        seen = self.files.get(name)
        if seen is None or stamp is None or seen[0] != stamp or may_have_changed_since(stamp, self.taken_ns):
            return None
        return seen[1]

    def same_whole(self, stamp: Stamp | None) -> Whole | None:
        """The source, where it is still the one that was opened."""
        if self.whole is None or stamp != self.whole.stamp or may_have_changed_since(stamp, self.taken_ns):
            return None
        return self.whole

    def says_the_same(self, other: Memory) -> bool:
        """But for the time."""
        ours, theirs = ((one.files, one.stored, one.whole, one.near) for one in (self, other))
        return ours == theirs


def memory_key(root: str, source: str) -> str:
    """Of the source of a recipe whose objects lie under `root`."""
    return f"{root}/data/seen/{hashlib.sha256(source.encode(errors='surrogateescape')).hexdigest()[:20]}{ENDING}"


def recall(s3: Any, bucket: str, key: str) -> Memory:
    """An empty Memory where there is none, or none that this code wrote."""
    body, _ = read_document(s3, bucket, key)
    if body is None:
        return Memory()
    try:
        return _read(_lines(body))
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, RecursionError) as error:
        log.warning("s3://%s/%s cannot be read (%s): every file is verified again.", bucket, key, error)
        return Memory()


def remember(s3: Any, bucket: str, key: str, memory: Memory) -> None:
    """Replace what is there."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=3, mtime=0) as packed:
        for line in _written(memory):
            packed.write(f"{json.dumps(line, separators=(',', ':'))}\n".encode())
    s3.put_object(Bucket=bucket, Key=key, Body=out.getvalue(), ContentType="application/gzip")


def _lines(body: bytes) -> Iterator[Any]:
    read = 0
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
        for line in packed:
            read += len(line)
            if read > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
            yield json.loads(line)


def _written(memory: Memory) -> Iterator[Any]:
    whole, near = (asdict(part) if part else None for part in (memory.whole, memory.near))
    yield {"format": FORMAT, "rules": rules(), "taken_ns": memory.taken_ns, "whole": whole, "near": near}
    yield sorted(memory.stored)
    yield from ([name, stamp, *_row(verdict)] for name, (stamp, verdict) in sorted(memory.files.items()))


def _row(verdict: Verdict) -> Iterable[Any]:
    if isinstance(verdict, Rejected):
        return ("rejected", asdict(verdict))
    original = list(asdict(verdict.original).values()) if verdict.original else None
    return (verdict.extension, verdict.sha256, verdict.size_bytes, verdict.frames, original)


def _read(lines: Iterator[Any]) -> Memory:
    head = next(lines, None) or {"format": None}
    if head["format"] != FORMAT or head["rules"] != rules():
        log.info("What a picture must be has changed since the last sync: every file is verified again.")
        return Memory()
    stored, whole = frozenset(next(lines, ())), Whole(**head["whole"]) if head["whole"] else None
    files = {name: (stamp, _verdict(*row)) for name, stamp, *row in lines}
    near = Near(**head["near"]) if head["near"] else None
    return Memory(taken_ns=int(head["taken_ns"]), files=files, stored=stored, whole=whole, near=near)


def _verdict(extension: str, *row: Any) -> Verdict:
    if extension == "rejected":
        rejected: Mapping[str, Any] = row[0]
        return Rejected(**rejected)
    sha256, size_bytes, frames, original = row
    return VerifiedImage(
        sha256=sha256,
        extension=extension,
        size_bytes=size_bytes,
        frames=frames,
        original=Original(**dict(zip(ORIGINAL, original, strict=True))) if original else None,
    )
