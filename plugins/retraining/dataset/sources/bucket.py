"""A source in S3: the names of its objects, and the bytes of those that are asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

from retraining.dataset.pictures.limits import MAX_BYTES
from retraining.dataset.pictures.verdict import Rejected
from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.archived import LISTED_WITH, UNREADABLE, is_archived, require_restored
from retraining.dataset.sources.tree import Leaf, Tree
from retraining.dataset.stamp import Stamp, stamp_of_object
from retraining.printable import printable
from retraining.s3.connections import connections
from retraining.s3.documents import CHANGED, MISSING

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """An object that S3 itself can copy."""

    bucket: str
    key: str
    etag: str | None = None
    """With its quotes: that it must still have. None where its name says what it is."""


@dataclass(frozen=True, kw_only=True)
class ObjectSource:
    """All objects below a prefix."""

    bucket: str
    prefix: str
    """Empty, or with its last slash."""

    @classmethod
    def of(cls, address: str) -> ObjectSource:
        """`address`: s3://bucket or s3://bucket/folder."""
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        return cls(bucket=bucket, prefix=f"{prefix.strip('/')}/" if prefix.strip("/") else "")

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def origin(self, name: str, stamp: Stamp) -> Origin:
        """One of its objects, as it was listed."""
        return Origin(bucket=self.bucket, key=f"{self.prefix}{name}", etag=etag_of(stamp))

    def tree(self, s3: Any, scratch: Path) -> Tree:
        """Their names, below the prefix. An object is where its leaf says once the tree's `bring` was given its name.

        Objects land under numbers: a key may be any text, and no text of a stranger becomes a path.
        """
        tree, archived = Tree(), set()
        for entry in self._listed(s3):
            name = entry["Key"].removeprefix(self.prefix)
            if name.endswith("/") or not name:  # how consoles mark a folder
                tree.empty.append(name.rstrip("/"))
                continue
            too_big = Rejected(code="TOO_BIG_BYTES", detail=f"{entry['Size']} bytes, at most {MAX_BYTES}")
            tree.leaves[name] = Leaf(
                path=scratch / str(len(tree.leaves)),
                rejected=too_big if entry["Size"] > MAX_BYTES else None,
                stamp=stamp_of_object(entry["Size"], entry["ETag"]),
            )
            if is_archived(entry):
                archived.add(name)
        tree.archived = frozenset(archived)
        tree.bring = lambda names: self._fetch(s3, tree, names)
        return tree

    def _listed(self, s3: Any) -> Iterator[dict[str, Any]]:
        try:
            listing = s3.get_paginator("list_objects_v2")
            for page in listing.paginate(Bucket=self.bucket, Prefix=self.prefix, **LISTED_WITH):
                yield from page.get("Contents", [])
        except ClientError as error:  # what else there is may pass, and is waited for by its code
            if error.response["Error"].get("Code") != "NoSuchBucket":
                raise
            raise SourceError(f"{self.uri}: there is no bucket {self.bucket!r}; correct the name or make it.") from None

    def _fetch(self, s3: Any, tree: Tree, names: Sequence[str]) -> None:
        require_restored(printable(self.uri), tree.archived.intersection(names))
        log.info("Fetching %d of %d objects from %s.", len(names), len(tree.leaves), printable(self.uri))
        with ThreadPoolExecutor(connections(s3)) as pool:
            list(pool.map(lambda name: self._fetch_one(s3, name, tree.leaves[name]), names))

    def _fetch_one(self, s3: Any, name: str, leaf: Leaf) -> None:
        """As it was listed: what is remembered of it must not be another's."""
        listed = self.origin(name, leaf.stamp or "")
        for again in (True, True, False):
            try:
                answer = s3.get_object(Bucket=listed.bucket, Key=listed.key, IfMatch=listed.etag)
                leaf.path.write_bytes(answer["Body"].read())
                return
            except ClientError as error:
                if error.response["Error"]["Code"] == UNREADABLE:
                    require_restored(printable(self.uri), [name])
                if error.response["Error"]["Code"] not in (*CHANGED, *MISSING):
                    raise
                raise moved(listed) from None
            except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
                if not again:
                    raise


def etag_of(stamp: Stamp) -> str:
    """Of an object, with the quotes that S3 gives it."""
    return f'"{stamp.partition(":")[2]}"'


def moved(listed: Origin) -> SourceError:
    """For an object that is no longer the one that was listed."""
    name = printable(f"s3://{listed.bucket}/{listed.key}")
    return SourceError(f"{name} was changed or deleted while the source was read; run again.")
