"""Small objects of S3 that were fetched before: the jobs of one search read the same thousand images one after another.

What a listing says is there now, by its ETag, is copied from here instead of being fetched; each job gets files of its
own, for a script may change them. Nothing is lost with the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from local_sagemaker.sandbox import disk

MAX_OBJECT_BYTES = 4 * 2**20
"""Larger ones come as fast as the store sends them: only waiting for many answers is saved here."""
MAX_BYTES = 2 * 2**30
"""Of all that is kept; then the longest unused goes first, to three quarters of it."""
SPARE_BYTES = 4 * 2**30
"""Nothing is kept on a disk that has less left."""
_LOCKS = 256


class Listed(NamedTuple):
    """What a listing says of an object."""

    bucket: str
    key: str
    etag: str
    size_bytes: int


class Fetched(NamedTuple):
    """What came."""

    size_bytes: int
    etag: str


class ObjectCache:
    """Files by what S3 says of an object. Any thread may call any method; none fails a job."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._kept_bytes = -1  # not counted yet
        self._counting = threading.Lock()
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def bring(self, listed: Listed, path: Path, fetch: Callable[[Path], Fetched]) -> int:
        """Write an object to `path`, from here or else by `fetch`; its bytes.

        Of several jobs that want the same object at once one fetches it.
        """
        if not 0 < listed.size_bytes <= MAX_OBJECT_BYTES:
            return fetch(path).size_bytes
        name = hashlib.sha256("\0".join((listed.bucket, listed.key, listed.etag)).encode()).hexdigest()
        kept = self._folder / name[:2] / name[2:]
        with self._locks[int(name[:4], 16) % _LOCKS]:
            if self._copied(kept, listed.size_bytes, path):
                return listed.size_bytes
            fetched = fetch(path)
            if fetched == Fetched(listed.size_bytes, listed.etag):  # else it was replaced since it was listed
                with contextlib.suppress(OSError):
                    self._keep(kept, path, fetched.size_bytes)
            return fetched.size_bytes

    def _copied(self, kept: Path, size_bytes: int, path: Path) -> bool:
        """False as well for a file that a crash left half written."""
        try:
            if kept.stat().st_size != size_bytes:
                return False
            shutil.copyfile(kept, path)
            os.utime(kept)
        except OSError:
            return False
        return path.stat().st_size == size_bytes

    def _keep(self, kept: Path, path: Path, size_bytes: int) -> None:
        if disk.free_bytes(path.parent) < SPARE_BYTES:
            return
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_name(f"{kept.name}.{uuid.uuid4().hex}")
        try:
            shutil.copyfile(path, unfinished)
            unfinished.replace(kept)
        finally:
            unfinished.unlink(missing_ok=True)
        with self._counting:
            if self._kept_bytes < 0:
                self._kept_bytes = sum(size for _, size, _ in self._files())
            else:
                self._kept_bytes += size_bytes
            if self._kept_bytes > self._max_bytes:
                self._make_room()

    def _make_room(self) -> None:
        for _, size, path in sorted(self._files()):
            if self._kept_bytes <= self._max_bytes * 3 // 4:
                break
            path.unlink(missing_ok=True)
            self._kept_bytes -= size

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """(last use in ns, bytes, path) of each file, also of those that a killed server was writing."""
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                yield stat.st_mtime_ns, stat.st_size, path
