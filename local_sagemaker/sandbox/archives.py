"""The .tar.gz archives that carry code and models: fetched, unpacked without trusting them, and packed.

Links, devices and paths that leave the folder are how archives attack (CVE-2007-4559 and its successors), and the
standard library's own filters have been bypassed repeatedly. So the extractor here knows regular files and folders
only; anything else refuses the archive whole, and nothing of a refused archive is left behind. A source may hold links
that stay inside, as the toolkit takes them; a model with links is refused by SageMaker, too. They are made when all
files have been written, so that none is written through one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from local_sagemaker import s3
from local_sagemaker.failures import JobFailedError
from local_sagemaker.sandbox import disk


@dataclasses.dataclass(frozen=True)
class Limits:
    members: int
    size_bytes: int
    """Unpacked. The free disk is a limit too, whatever this one says."""
    links: bool = False
    """Whether links are taken that stay inside."""


SOURCE = Limits(10_000, 2 * 2**30, links=True)
MODEL = Limits(200_000, 512 * 2**30)

# A header (a PAX record, a long name) is read into memory whole; real ones have a few hundred bytes.
_MAX_HEADER_BYTES = 2**20
_HEADERS_BYTES_PER_MEMBER = 8192
# Python before 3.11.10 searches a PAX record's digits in time that grows with their square (CVE-2024-6232).
_DIGITS, _MAX_DIGITS = re.compile(rb"\d{20,}"), 300
_MAX_PADDING_BYTES = 2**24
_COPY_BYTES = 2**18
# More than any program makes, and less than Python can go down.
_MAX_DEPTH = 100


def never() -> bool:
    return False


def fetch_archive(
    objects: s3.ObjectStore, uri: str, folder: Path, limits: Limits = MODEL, stopped: Callable[[], bool] = never
) -> None:
    """Download the object `uri` and unpack it into `folder`, which is made or empty. Raises JobFailedError.

    `stopped`, asked now and then, ends that; then what is in the folder is nothing.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    bucket, key = s3.split_uri(uri)
    with tempfile.TemporaryDirectory(prefix=".archive-", dir=folder.parent) as temporary:
        archive = Path(temporary, "archive.tar.gz")
        disk.require(folder.parent, objects.size(uri), uri)
        objects.download([s3.Object(bucket, key, archive.name)], archive.parent, stopped)
        if not stopped():
            unpack(archive, folder, uri, limits, stopped)


def unpack(
    archive: Path, folder: Path, what: str, limits: Limits = SOURCE, stopped: Callable[[], bool] = never
) -> None:
    """Unpack a .tar.gz of files and folders into `folder`, which is made or empty: everything, or nothing.

    Raises JobFailedError, which calls the archive `what`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".unpack-", dir=folder.parent))
    staging.chmod(0o755)
    try:
        with _Gzip(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            _Extraction(staging, what, limits, stopped).run(tar, stream)
        if not stopped():
            staging.rename(folder)
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError, RecursionError) as error:
        raise JobFailedError(f"ClientError: {what} is not a readable .tar.gz: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def pack(folder: Path, archive: Path) -> None:
    """`folder` as a .tar.gz with its files at the root.

    A link to a file inside the folder becomes that file, because no archive with links is unpacked again.
    Raises JobFailedError when a file cannot be read or the disk has no room.
    """
    disk.require(archive.parent, disk.used_bytes(folder), f"packing {archive.name}")
    root = folder.resolve()

    def member(info: tarfile.TarInfo) -> tarfile.TarInfo:
        target = (folder / info.name).resolve()
        if (info.issym() or info.islnk()) and target.is_relative_to(root) and target.is_file():
            info.type, info.linkname, info.size = tarfile.REGTYPE, "", target.stat().st_size
        return info

    try:
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            for path in sorted(folder.iterdir()):
                tar.add(path, arcname=path.name, filter=member)
    except OSError as error:
        raise JobFailedError(f"ClientError: {archive.name} cannot be packed: {error}") from error


class _Gzip(gzip.GzipFile):
    """A gzip stream from which tarfile cannot be made to read a header that costs memory or time without end."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self.in_headers = True
        """Else in what a member holds."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = super().read(size)
        if self.in_headers and any(len(run) > _MAX_DIGITS for run in _DIGITS.findall(data)):
            raise tarfile.ReadError(f"a header with more than {_MAX_DIGITS} digits in a row")
        return data


class _Extraction:
    """One archive on its way into an empty folder."""

    def __init__(self, folder: Path, what: str, limits: Limits, stopped: Callable[[], bool]) -> None:
        self._folder = folder
        self._what = what
        self._limits = limits
        self._stopped = stopped
        self._members = 0
        self._size_bytes = 0
        self._links: dict[Path, tarfile.TarInfo] = {}

    def run(self, tar: tarfile.TarFile, stream: _Gzip) -> None:
        while not self._stopped() and (member := self._next(tar, stream)) is not None:
            vars(tar)["members"] = []  # else it keeps them all
            path = self._path(member)
            self._count(member, stream.tell())
            self._links.pop(path, None)
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                self._write(tar, member, path)
            else:
                self._links[path] = member
        self._read_to_the_end(stream)
        self._make_links()

    @staticmethod
    def _next(tar: tarfile.TarFile, stream: _Gzip) -> tarfile.TarInfo | None:
        stream.in_headers = True
        member = tar.next()
        stream.in_headers = False
        return member

    def _read_to_the_end(self, stream: _Gzip) -> None:
        """Where the checksum of all that was unpacked is: tar's own end comes before it."""
        read = 0
        while not self._stopped() and (chunk := stream.read(_COPY_BYTES)):
            read += len(chunk)
            if read > _MAX_PADDING_BYTES:
                raise tarfile.ReadError(f"more than {_MAX_PADDING_BYTES} bytes follow its end")

    def _count(self, member: tarfile.TarInfo, position: int) -> None:
        headers_bytes = position - self._size_bytes
        self._members += 1
        self._size_bytes += member.size if member.isfile() else 0
        limits = self._limits
        if (
            self._members > limits.members
            or self._size_bytes > limits.size_bytes
            or headers_bytes > _HEADERS_BYTES_PER_MEMBER * (self._members + 2000)
        ):
            raise JobFailedError(
                f"ClientError: {self._what} is larger than {limits.members} files or {limits.size_bytes} bytes"
            )
        if member.isfile():
            disk.require(self._folder, member.size, f"'{member.name}' of {self._what}")

    def _path(self, member: tarfile.TarInfo) -> Path:
        path = Path(os.path.normpath(self._folder / member.name))
        plain = (member.isfile() and not member.issparse() and member.size >= 0) or member.isdir()
        plain = plain or (self._limits.links and (member.issym() or member.islnk()))
        if not plain or not path.is_relative_to(self._folder) or (not member.isdir() and path == self._folder):
            raise self._refusal(member)
        if len(path.parts) - len(self._folder.parts) > _MAX_DEPTH:
            raise JobFailedError(
                f"ClientError: {self._what} holds '{member.name:.60}…', more than {_MAX_DEPTH} folders deep"
            )
        return path

    def _make_links(self) -> None:
        """A hard link names a file from the folder on, a symbolic one from where it is; neither may lead out."""
        root = self._folder.resolve()
        for path, member in self._links.items():
            if not self._links.keys().isdisjoint(path.parents):
                raise self._refusal(member)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)  # a file that came before, as with tar
                if member.issym():
                    path.symlink_to(member.linkname)
                else:
                    target = Path(os.path.realpath(self._folder / member.linkname, strict=True))
                    os.link(target if target.is_relative_to(root) else "", path)
            except OSError as error:
                raise self._refusal(member) from error
        # What one leads to depends on the others.
        for path, member in self._links.items():
            if os.path.isabs(member.linkname) or not Path(os.path.realpath(path)).is_relative_to(root):
                raise self._refusal(member)

    def _refusal(self, member: tarfile.TarInfo) -> JobFailedError:
        return JobFailedError(f"ClientError: {self._what} holds '{member.name}', which is not a plain file inside")

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        source = tar.extractfile(member)
        assert source is not None, "a regular file has content"
        rest = member.size
        with source, path.open("wb") as file:  # a name that comes twice: the last one counts, as with tar
            while rest and not self._stopped():
                chunk = source.read(min(rest, _COPY_BYTES))
                if not chunk:
                    raise tarfile.ReadError(f"it ends inside '{member.name}'")
                file.write(chunk)
                rest -= len(chunk)
        path.chmod(0o755 if member.mode & 0o100 else 0o644)
        with contextlib.suppress(OSError, OverflowError, ValueError):
            os.utime(path, (member.mtime, member.mtime))
