"""Unpacking archives that strangers made: nothing outside the target, nothing but plain files, nothing without end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from retraining.code_pages import DOS, page_of
from retraining.printable import printable
from retraining.zip_file import open_zip

MAX_FILES = 2_000_000
MAX_TOTAL_BYTES = 200 * 1024**3
MAX_RATIO = 100
"""Images hardly pack: what unpacks to more times its own size is no data set."""
RATIO_FROM_BYTES = 100 * 1024**2
"""Below this any ratio will do."""
KEPT_FREE_BYTES = 1024**3
"""Of the disk, for the worker's other work."""
MAX_ZIP_ENTRIES = 500_000
"""A zip lists them all at its end, and each takes 600 bytes of memory."""
ENTRY_BYTES, FOLDER_BYTES = 512, 4096
"""What an entry, and a folder on its way, count for beside the bytes of a file."""
MAX_DEPTH = 100
MAX_HEADER_BYTES = 1024**2
"""A tar's header (a PAX record, a long name) is read into memory whole; real ones have a few hundred bytes."""
MAX_HEADERS_BYTES = 4 * 1024**2
"""Of one tar entry, however many headers it is described by."""
DIGITS, MAX_DIGITS = re.compile(rb"\d{20,}"), 300
"""Of a header, in a row. Python before 3.11.10 searches them in time that grows with their square (CVE-2024-6232)."""
MAX_DICTIONARY_BYTES = 256 * 1024**2
"""What unpacking an .xz may take of memory; `xz -9` makes files that take 65 MiB."""
DRIVE = re.compile(r"[A-Za-z]:")
"""Of Windows, in front of a name; elsewhere a colon is a letter like others: `10:30/`."""
COPY_BYTES = 256 * 1024
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of the others Python unpacks all that it has read at once: three kilobytes of bzip2 are gigabytes of memory."""
ZIP, GZIP, BZIP2, XZ = (b"PK\x03\x04", b"PK\x05\x06"), b"\x1f\x8b", b"BZh", (b"\xfd7zXZ", b"]\0\0")
UNICODE_PATH = 0x7075
"""Of an extra field of a zip."""
LOOK_BYTES = 64 * 1024**2  # how often the disk is looked at

# Python's own tar filters had holes until 3.11.17 (CVE-2025-4517, CVE-2026-82049), so no member is ever extracted by
# name: each file's bytes are copied to a path made here.


class ArchiveError(ValueError):
    """The archive cannot be unpacked safely."""


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
            total += ENTRY_BYTES
            if not path.parent.exists():
                total += FOLDER_BYTES * len(path.parent.relative_to(target).parts)
                path.parent.mkdir(parents=True, exist_ok=True)
            require_bounded(archive.name, packed, total)
            with path.open("xb") as out:
                while block := body.read(COPY_BYTES):
                    total += len(block)
                    require_bounded(archive.name, packed, total)
                    if total - looked >= LOOK_BYTES:
                        looked = total
                        require_room(archive.name, target)
                    out.write(block)
    except FileExistsError as error:
        twice = printable(str(Path(error.filename).relative_to(target)))
        raise ArchiveError(f"{archive.name} holds {twice} twice; the archive is ambiguous") from None
    except NotImplementedError as error:  # of zipfile, for what else it does not know
        raise _packed_otherwise(archive, str(error)) from None
    except ArchiveError:
        raise
    except (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, RuntimeError,
        ValueError, OverflowError, MemoryError,
    ) as error:  # fmt: skip
        raise ArchiveError(f"{archive.name} {_why_unread(archive, error)}") from None
    return count


def _packed_otherwise(archive: Path, why: str) -> ArchiveError:
    return ArchiveError(f"{archive.name} cannot be unpacked here: {why}. Pack it again with Deflate")


def _why_unread(archive: Path, error: BaseException) -> str:
    begin = _head(archive).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if begin.startswith((b"<!doctype html", b"<html")):
        return "is a web page, as a login or a notice answers in place of a file. Download the file that is meant"
    return f"cannot be read: {error}. Download or make it again"


def require_bounded(name: str, packed: int, total: int) -> None:
    """Raises ArchiveError where `packed` bytes unpack to a `total` beyond the limits."""
    if total > MAX_TOTAL_BYTES:
        raise ArchiveError(f"{name} unpacks to more than {MAX_TOTAL_BYTES} bytes; split it")
    if total > RATIO_FROM_BYTES and total > MAX_RATIO * packed:
        raise ArchiveError(f"{name} unpacks to more than {MAX_RATIO} times its {packed} bytes, which images do not")


def require_room(name: str, target: Path) -> None:
    """Raises ArchiveError where the disk of `target` is nearly full. `name`: of what is written there."""
    free = shutil.disk_usage(target).free
    if free < KEPT_FREE_BYTES + LOOK_BYTES:
        raise ArchiveError(
            f"{name} does not fit on the worker's disk: {free} bytes are free at {target.anchor}, of which "
            f"{KEPT_FREE_BYTES} are kept. Set TMPDIR to a larger disk, or name a folder or an s3:// prefix"
        )


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if _is_zip(archive):
        with open_zip(archive, MAX_ZIP_ENTRIES) as opened:
            infos = opened.infolist()
            for info, name in zip(infos, _zip_names(infos), strict=True):
                kind = stat.S_IFMT(info.external_attr >> 16)
                if name.endswith("/"):
                    continue
                if kind not in (0, stat.S_IFREG):
                    shown = printable(name)
                    raise ArchiveError(f"{archive.name} holds {shown}, which is not a plain file; leave it out")
                if info.compress_type not in ZIP_METHODS:
                    raise _packed_otherwise(archive, f"{printable(name)} is packed by method {info.compress_type}")
                with opened.open(info) as body:
                    yield name, body
        return
    with _Unpacked(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        packed = archive.stat().st_size
        while (member := _next(tar, stream)) is not None:
            vars(tar)["members"] = []  # else it keeps them all
            require_bounded(archive.name, packed, stream.tell())
            if member.isdir():
                continue
            if not member.isfile() or member.issparse():
                shown = printable(member.name)
                raise ArchiveError(f"{archive.name} holds {shown}, which is not a plain file; leave it out")
            content = tar.extractfile(member)
            assert content is not None  # it is a plain file
            yield member.name.replace("\\", "/"), content
        # The checksum of all that was unpacked stands behind tar's own end.
        while _next_block(stream):
            require_bounded(archive.name, packed, stream.tell())


def _next_block(stream: _Unpacked) -> bytes:
    """Nothing as well where something else than gzip follows, which tar's users never see."""
    try:
        return stream.read(COPY_BYTES)
    except gzip.BadGzipFile as error:
        if "Not a gzipped file" not in str(error):
            raise
        return b""


def _next(tar: tarfile.TarFile, stream: _Unpacked) -> tarfile.TarInfo | None:
    stream.headers_bytes = 0
    member = tar.next()
    stream.headers_bytes = None
    if sum(len(key) + len(value) for key, value in tar.pax_headers.items()) > MAX_HEADER_BYTES:
        raise tarfile.ReadError("its global headers are too long")
    return member


class _Unpacked(io.RawIOBase):
    """The bytes of a tar in any packing, of which tarfile cannot be made to read a header that costs without end."""

    def __init__(self, archive: Path) -> None:
        super().__init__()
        self.headers_bytes: int | None = 0
        """Of the entry whose headers are being read; None within what an entry holds."""
        self._inner: IO[bytes] = _opened(archive)

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"it has a header of {size} bytes")
        data = self._inner.read(size)
        if self.headers_bytes is not None:
            self.headers_bytes += size
            if self.headers_bytes > MAX_HEADERS_BYTES:
                raise tarfile.ReadError("one entry has headers without end")
            if any(len(run) > MAX_DIGITS for run in DIGITS.findall(data)):
                raise tarfile.ReadError(f"it has a header with more than {MAX_DIGITS} digits in a row")
        return data

    def seek(self, at: int, whence: int = 0, /) -> int:
        return self._inner.seek(at, whence)

    def tell(self) -> int:
        return self._inner.tell()

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


def _opened(archive: Path) -> IO[bytes]:
    """By its first bytes: a name may say anything."""
    begin = _head(archive)
    if begin.startswith(GZIP):
        return gzip.open(archive)  # type: ignore[return-value]
    if begin.startswith(BZIP2):
        return bz2.open(archive)
    if begin.startswith(XZ):
        _require_small_dictionary(archive)
        return lzma.open(archive)
    return archive.open("rb")


def _is_zip(archive: Path) -> bool:
    """By its first bytes, too; one that unpacks itself begins with a program, and has only its name to say so."""
    begin = _head(archive)
    if begin.startswith(ZIP):
        return True
    is_tar = begin.startswith((GZIP, BZIP2, *XZ)) or begin[257:262] == b"ustar"
    return archive.name.lower().endswith(".zip") and not is_tar


def _head(archive: Path) -> bytes:
    with archive.open("rb") as file:
        return file.read(512)


def _require_small_dictionary(archive: Path) -> None:
    """Of its first block: lzma.open takes no limit, and a file of a kilobyte may ask for four gigabytes."""
    with archive.open("rb") as file:
        lzma.LZMADecompressor(memlimit=MAX_DICTIONARY_BYTES).decompress(file.read(COPY_BYTES), max_length=1)


def _zip_names(infos: Sequence[zipfile.ZipInfo]) -> Iterator[str]:
    """Of members, in their order. PowerShell 5 writes backslashes."""
    names = [_raw_name(info) for info in infos]
    page = page_of(b"/".join(name for name in names if isinstance(name, bytes)), DOS)
    for name in names:
        if isinstance(name, str):
            yield name.replace("\\", "/")
        else:  # no page has a slash within a letter, and a folder is to be called the same in all its files' names
            yield "/".join(_in_page(part, page) for part in name.split(b"/"))


def _raw_name(info: zipfile.ZipInfo) -> str | bytes:
    """Bytes where they are in a code page that the zip does not name. macOS writes UTF-8 without saying so."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        raw = info.filename.encode("cp437")  # as zipfile took it to be
    except UnicodeError:
        return info.filename
    try:
        return _unicode_path(info.extra, raw) or raw.decode()
    except UnicodeError:
        return raw


def _in_page(part: bytes, page: str | None) -> str:
    """What is in none that is known stays bytes, as in a tar: a file may be called so, a class is refused by name."""
    known = page or page_of(part, DOS)
    return part.decode(known).replace("\\", "/") if known else part.decode("utf-8", "surrogateescape")


def _unicode_path(extra: bytes, raw: bytes) -> str:
    """The name in UTF-8 that WinZip and Info-ZIP put beside one of an old code page; empty without any.

    Source: APPNOTE 6.3, 4.6.9: version, CRC of the other name, UTF-8.
    """
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        value, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == UNICODE_PATH and value[:1] == b"\1" and value[1:5] == struct.pack("<I", zlib.crc32(raw)):
            return value[5:].decode()
    return ""


def _inside(target: Path, name: str, archive: Path) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\0" in name or ".." in parts or DRIVE.match(name):
        raise ArchiveError(
            f"{archive.name} holds {name!r}, a name that leads out of the folder; the archive is refused"
        )
    if len(parts) > MAX_DEPTH:
        raise ArchiveError(f"{archive.name} holds {printable(name)[:60]}…, more than {MAX_DEPTH} folders deep")
    if long := next((part for part in parts if len(os.fsencode(part)) > 255), None):
        raise ArchiveError(f"{archive.name} holds {printable(long)[:60]}…, a name of more than 255 bytes; shorten it")
    return target.joinpath(*parts)
