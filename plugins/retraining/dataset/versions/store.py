"""The versions' side of a sync: objects that are put once, documents that are put when they changed, all counted."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from retraining.dataset.progress import Progress, in_log
from retraining.dataset.sources.bucket import Origin, moved
from retraining.dataset.sources.memory import Forgotten
from retraining.s3.connections import connections
from retraining.s3.documents import CHANGED, MISSING
from retraining.s3.listing import list_keys, list_sizes

log = logging.getLogger(__name__)

CONTENT_TYPES = {
    "jpg": "image/jpeg",
    "json": "application/json",
    "png": "image/png",
    "tar": "application/x-tar",
    "webp": "image/webp",
}
ASKED = 8
"""Objects that are looked for where a listing is spared."""


class Store:
    """Below one prefix of a bucket."""

    def __init__(self, s3: Any, bucket: str, root: str, stored: frozenset[str], progress: Progress = in_log) -> None:
        """`stored`: keys below `root` that an earlier sync has seen there; empty: it is listed."""
        self.s3, self.bucket, self.root, self.stored, self.uploaded = s3, bucket, root, stored, 0
        self.progress = progress

    def put_missing(self, wanted: Mapping[str, Path | Origin]) -> None:
        """Files or objects by their keys, which name their content: those that S3 has are right by their name.

        Raises Forgotten, before anything is put, where a file is neither here nor there.
        """
        if not self.stored and wanted:
            self.stored = self._listed({key.partition("/")[0] for key in wanted})
        else:
            self._ask_for_some(self.stored & wanted.keys())
        missing = sorted(wanted.keys() - self.stored)
        if gone := next((key for key in missing if _is_absent(wanted[key])), None):
            raise Forgotten(f"{gone} is not in the bucket, and its file was not read again")
        self._run([partial(self._put, key, wanted[key]) for key in missing])
        self.stored = frozenset(wanted)

    def require(self, key: str | None = None) -> None:
        """Raises Forgotten where some of what is believed to be stored, or an object of the bucket, is gone."""
        self._ask_for_some(self.stored)
        if key:
            self._ask_for(key)

    def read(self, key: str, most: int | None = None) -> bytes | None:
        """None where there is no object, or one of more than `most` bytes."""
        try:
            found = self.s3.get_object(Bucket=self.bucket, Key=f"{self.root}{key}")
        except self.s3.exceptions.NoSuchKey:
            return None
        if most is not None and found["ContentLength"] > most:
            found["Body"].close()
            return None
        return bytes(found["Body"].read())

    def put_changed(self, documents: Mapping[str, bytes]) -> None:
        """Small documents by their keys; in this order, those are written of which S3 has something else or nothing."""
        with ThreadPoolExecutor(len(documents)) as pool:
            there = dict(zip(documents, pool.map(self.read, documents), strict=True))
        for key, body in documents.items():
            if there[key] != body:
                place = {"Bucket": self.bucket, "Key": f"{self.root}{key}"}
                self.s3.put_object(**place, Body=body, ContentType="application/json")
                self.uploaded += 1

    def put(self, key: str, path: Path) -> None:
        """A file, whatever S3 has there."""
        self._put(key, path)
        self.uploaded += 1

    def put_bytes(self, key: str, body: bytes) -> None:
        """Whatever S3 has there; not counted, for it is no part of a version. May be called by several threads."""
        self.s3.put_object(Bucket=self.bucket, Key=f"{self.root}{key}", Body=body, ContentType=content_type(key))

    def remove(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=f"{self.root}{key}")

    def sizes(self, prefix: str) -> dict[str, int]:
        """Key → bytes of all objects whose keys begin so."""
        found = list_sizes(self.s3, self.bucket, f"{self.root}{prefix}")
        return {key.removeprefix(self.root): size for key, size in found}

    def _listed(self, folders: Iterable[str]) -> frozenset[str]:
        """Never relies on the order of a listing."""
        prefixes = [f"{self.root}{folder}/" for folder in sorted(folders)]
        found = (key for prefix in prefixes for key in list_keys(self.s3, self.bucket, prefix))
        return frozenset(key.removeprefix(self.root) for key in found)

    def _ask_for_some(self, believed: Iterable[str]) -> None:
        """A bucket that lost its objects, to a rule or a person, is seen without listing it."""
        candidates = sorted(believed)
        of_today = random.Random(int(time.time() // 86400))
        asked = of_today.sample(candidates, min(ASKED, len(candidates)))
        with ThreadPoolExecutor(ASKED) as pool:
            list(pool.map(self._ask_for, [f"{self.root}{key}" for key in asked]))

    def _ask_for(self, key: str) -> None:
        try:
            self.s3.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] not in MISSING:
                raise
            raise Forgotten(f"{key} is no longer in the bucket") from None

    def _put(self, key: str, source: Path | Origin) -> None:
        target = {
            "Bucket": self.bucket,
            "Key": f"{self.root}{key}",
            "ContentType": content_type(key),
        }
        if isinstance(source, Origin):
            self._copy(source, target)
            return
        with source.open("rb") as body:
            self.s3.put_object(**target, Body=body)

    def _copy(self, source: Origin, target: Mapping[str, str]) -> None:
        condition = {"CopySourceIfMatch": source.etag} if source.etag else {}
        place = {"Bucket": source.bucket, "Key": source.key}
        # Neither a stranger's metadata nor their tags, which take a right of their own to read.
        new = {"MetadataDirective": "REPLACE", "TaggingDirective": "REPLACE"}
        try:
            self.s3.copy_object(**target, **new, **condition, CopySource=place)
        except ClientError as error:
            if error.response["Error"]["Code"] not in (*CHANGED, *MISSING):
                raise
            raise moved(source) from None

    def _run(self, uploads: list[Callable[[], None]]) -> None:
        with ThreadPoolExecutor(connections(self.s3)) as pool:
            for done, future in enumerate(as_completed([pool.submit(upload) for upload in uploads]), start=1):
                future.result()
                self.progress("Uploaded", done, len(uploads))
        self.uploaded += len(uploads)


def content_type(key: str) -> str:
    return CONTENT_TYPES.get(key.rsplit(".", 1)[-1], "application/octet-stream")


def _is_absent(source: Path | Origin) -> bool:
    return isinstance(source, Path) and not source.is_file()
