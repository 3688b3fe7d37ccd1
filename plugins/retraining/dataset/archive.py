"""Unpacking archives that strangers made: nothing outside the target, nothing but plain files, nothing without end."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

MAX_FILES = 2_000_000
MAX_TOTAL_BYTES = 200 * 1024**3
COPY_BYTES = 1024 * 1024

# Python's own tar filters had holes until 3.11.17 (CVE-2025-4517, CVE-2026-82049), so no member is ever extracted by
# name: each file's bytes are copied to a path made here.


class ArchiveError(ValueError):
    """The archive cannot be unpacked safely."""


def is_archive(path: Path) -> bool:
    return path.name.endswith((".zip", ".tar", ".tar.gz", ".tgz"))


def unpack(archive: Path, target: Path) -> int:
    """Write the plain files of a zip or tar below `target`; returns how many.

    Links, devices and names that leave the folder are refused; a lying size cannot fill the disk beyond the limit.
    """
    count = total = 0
    try:
        for name, body in _members(archive):
            path = _inside(target, name, archive)
            count += 1
            if count > MAX_FILES:
                raise ArchiveError(f"{archive.name} holds more than {MAX_FILES} files; split it")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as out:
                while block := body.read(COPY_BYTES):
                    total += len(block)
                    if total > MAX_TOTAL_BYTES:
                        raise ArchiveError(f"{archive.name} unpacks to more than {MAX_TOTAL_BYTES} bytes; split it")
                    out.write(block)
    except FileExistsError as error:
        raise ArchiveError(f"{archive.name} holds {error.filename} twice; the archive is ambiguous") from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:
        raise ArchiveError(f"{archive.name} cannot be read: {error}. Download or make it again") from None
    return count


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if info.is_dir():
                    continue
                if kind not in (0, stat.S_IFREG):
                    raise ArchiveError(f"{archive.name} holds {info.filename}, which is not a plain file; leave it out")
                with opened.open(info) as body:
                    yield info.filename, body
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                continue
            if not member.isfile():
                raise ArchiveError(f"{archive.name} holds {member.name}, which is not a plain file; leave it out")
            content = tar.extractfile(member)
            assert content is not None  # it is a plain file
            yield member.name, content


def _inside(target: Path, name: str, archive: Path) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or ":" in parts[0]:
        raise ArchiveError(
            f"{archive.name} holds {name!r}, a name that leads out of the folder; the archive is refused"
        )
    return target.joinpath(*parts)
