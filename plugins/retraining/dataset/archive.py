"""Unpacking archives that strangers made: nothing outside the target, nothing but plain files, nothing without end."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from retraining.dataset.names import printable

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
KINDS = ".zip, .tar, .tar.gz, .tar.bz2 or .tar.xz"
MAX_FILES = 2_000_000
MAX_TOTAL_BYTES = 200 * 1024**3
MAX_RATIO = 100
"""Images hardly pack: what unpacks to more times its own size is no data set."""
RATIO_FROM_BYTES = 1024**3
"""Below this any ratio will do."""
KEPT_FREE_BYTES = 1024**3
"""Of the disk, for the worker's other work."""
COPY_BYTES = 1024 * 1024
LOOK_BYTES = 64 * 1024**2  # how often the disk is looked at

# Python's own tar filters had holes until 3.11.17 (CVE-2025-4517, CVE-2026-82049), so no member is ever extracted by
# name: each file's bytes are copied to a path made here.


class ArchiveError(ValueError):
    """The archive cannot be unpacked safely."""


def is_archive(path: Path) -> bool:
    """By its name, in any case."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, target: Path) -> int:
    """Write the plain files of a zip or tar below `target`; returns how many.

    Links, devices and names that leave the folder are refused; a lying size cannot fill the disk beyond the limits.
    """
    count = total = 0
    looked = -LOOK_BYTES
    try:
        packed = archive.stat().st_size
        for name, body in _members(archive):
            path = _inside(target, name, archive)
            count += 1
            if count > MAX_FILES:
                raise ArchiveError(f"{archive.name} holds more than {MAX_FILES} files; split it")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as out:
                while block := body.read(COPY_BYTES):
                    total += len(block)
                    _require_bounded(archive.name, packed, total)
                    if total - looked >= LOOK_BYTES:
                        looked = total
                        _require_room(archive.name, target)
                    out.write(block)
    except FileExistsError as error:
        twice = printable(str(error.filename))
        raise ArchiveError(f"{archive.name} holds {twice} twice; the archive is ambiguous") from None
    except NotImplementedError as error:  # of zipfile, for a method it does not know
        raise ArchiveError(f"{archive.name} cannot be unpacked here: {error}. Pack it again with Deflate") from None
    except (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, RuntimeError,
        UnicodeError,
    ) as error:  # fmt: skip
        raise ArchiveError(f"{archive.name} cannot be read: {error}. Download or make it again") from None
    return count


def _require_bounded(name: str, packed: int, total: int) -> None:
    if total > MAX_TOTAL_BYTES:
        raise ArchiveError(f"{name} unpacks to more than {MAX_TOTAL_BYTES} bytes; split it")
    if total > RATIO_FROM_BYTES and total > MAX_RATIO * packed:
        raise ArchiveError(f"{name} unpacks to more than {MAX_RATIO} times its {packed} bytes, which images do not")


def _require_room(name: str, target: Path) -> None:
    free = shutil.disk_usage(target).free
    if free < KEPT_FREE_BYTES + LOOK_BYTES:
        raise ArchiveError(
            f"{name} does not fit on the worker's disk: {free} bytes are free at {target.anchor}, of which "
            f"{KEPT_FREE_BYTES} are kept. Set TMPDIR to a larger disk, or name a folder or an s3:// prefix"
        )


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                name, kind = _zip_name(info), stat.S_IFMT(info.external_attr >> 16)
                if name.endswith("/"):
                    continue
                if kind not in (0, stat.S_IFREG):
                    raise ArchiveError(f"{archive.name} holds {name}, which is not a plain file; leave it out")
                with opened.open(info) as body:
                    yield name, body
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                continue
            if not member.isfile():
                shown = printable(member.name)
                raise ArchiveError(f"{archive.name} holds {shown}, which is not a plain file; leave it out")
            content = tar.extractfile(member)
            assert content is not None  # it is a plain file
            yield member.name.replace("\\", "/"), content


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Of a member. PowerShell 5 writes backslashes, and macOS UTF-8 without saying so."""
    name = info.filename
    if not info.flag_bits & 0x800:
        try:
            name = name.encode("cp437").decode()
        except UnicodeError:  # it is cp437, or nearly
            name = info.filename
    return name.replace("\\", "/")


def _inside(target: Path, name: str, archive: Path) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\0" in name or ".." in parts or ":" in parts[0]:
        raise ArchiveError(
            f"{archive.name} holds {name!r}, a name that leads out of the folder; the archive is refused"
        )
    if long := next((part for part in parts if len(os.fsencode(part)) > 255), None):
        raise ArchiveError(f"{archive.name} holds {printable(long)[:60]}…, a name of more than 255 bytes; shorten it")
    return target.joinpath(*parts)
