"""A stranger's zip, whose list of entries is bounded before it is read and must not lie about where they are."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_LIST_BYTES = 256 * 1024**2
ENTRY, HEADER_BYTES = b"PK\x01\x02", 30


@contextmanager
def open_zip(path: Path, most_entries: int) -> Iterator[zipfile.ZipFile]:
    """Raises BadZipFile also for too many entries, for those that overlap, lie elsewhere or are encrypted."""
    with _Listed(path, most_entries) as file, zipfile.ZipFile(file) as archive:
        file.most_entries = None
        _require_apart(archive, path.stat().st_size)
        yield archive


class _Listed(io.FileIO):
    """A file from which no list of more entries can be read. The number that a zip states itself means nothing."""

    def __init__(self, path: Path, most_entries: int) -> None:
        super().__init__(path)
        self.most_entries: int | None = most_entries

    def read(self, size: int | None = -1, /) -> bytes:
        size = -1 if size is None else size
        if self.most_entries is None:
            return super().read(size)
        if size > MAX_LIST_BYTES:
            raise zipfile.BadZipFile(f"its list of entries has {size} bytes")
        body = super().read(size)
        if body.count(ENTRY) > self.most_entries:
            raise zipfile.BadZipFile(f"it has more than {self.most_entries:,} entries; pack it as .tar, or split it")
        return body


def _require_apart(archive: zipfile.ZipFile, size: int) -> None:
    """One run of bytes that stands for many entries is how a small zip becomes a large disk."""
    end, before = 0, ""
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.flag_bits & 0x1:
            raise zipfile.BadZipFile(f"{info.filename[:100]!a} is encrypted; pack it without a password")
        if info.header_offset < end:
            raise zipfile.BadZipFile(f"{info.filename[:100]!a} overlaps {before[:100]!a}")
        end, before = info.header_offset + HEADER_BYTES + info.compress_size, info.filename
        if end > size:
            raise zipfile.BadZipFile(f"{info.filename[:100]!a} should end at byte {end} of {size}")
