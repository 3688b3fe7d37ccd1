"""Arrays on disk that trainings share: made once, memory-mapped by all who need them.

A file is named after a digest of all that its numbers were made of, so it never changes and never goes stale. The maker
writes <name>.partial under an exclusive flock and renames it; users hold a shared flock as long as they have the array.
Locks end with their process, however it ends: what a killed maker left is taken over by the next one. Whoever finds a
maker at work waits while that one gets on, else goes without. Files carry checksums; a damaged one is made anew.

The folder stays below a limit: for a new file the least recently used ones go, but none that somebody uses.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, BinaryIO

    from numpy.typing import DTypeLike, NDArray

    Make = Callable[[], Iterable[NDArray[Any]]]

WARM_POOL = Path("/opt/ml/sagemaker/warmpoolcache")  # outlives a job whose instances are kept alive for the next one
OFF = "none"
LIMIT_BYTES = 32 * 2**30
SPARE = 0.05  # share of the disk that stays free for others
PATIENCE_S = 120  # how long a maker may write nothing before those who wait go without
POLL_S = 0.05
BLOCK_BYTES = 2**22  # what one checksum covers
SUFFIX, PARTIAL = ".array", ".partial"


def open_cache(folder: Path | str | None, say: Callable[[str], object]) -> ArrayCache | None:
    """The cache in `folder`; by default in SageMaker's warm pool or the user's own temporary folder.

    None for the folder "none", and where the folder cannot be used, which is said: a training can do without.
    """
    if folder == OFF:
        return None
    try:
        folder = prepared(folder) if folder else default_folder()
    except OSError as error:
        say(f"no cache: {error}; name another folder by --cache-dir, or none")
        return None
    return ArrayCache(folder, say)


def prepared(folder: Path | str) -> Path:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "files cannot be made there", str(folder))
    return folder


def default_folder() -> Path:
    if WARM_POOL.is_dir() and os.access(WARM_POOL, os.W_OK | os.X_OK):
        return WARM_POOL
    folder = Path(tempfile.gettempdir()) / f"retraining-cache-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    # Everybody may write to the temporary folder: what somebody else put there would become training images.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EPERM, "it is not this user's own folder with mode 0700", str(folder))
    return folder


class ArrayCache:
    """The arrays in one folder. Safe with other processes, and threads, that use the same folder."""

    def __init__(self, folder: Path | str, say: Callable[[str], object], limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder, self.say, self.limit_bytes = Path(folder), say, limit_bytes
        self.damaged: set[tuple[int, int] | None] = set()  # identities of files

    def array(self, name: str, shape: Sequence[int], dtype: DTypeLike, make: Make) -> NDArray[Any] | None:
        """The array of that name, read-only; if there is none, of the blocks of rows that make() yields.

        None where the disk cannot serve, which is said. What make() raises passes through, except OSError.
        """
        form = Form(shape, dtype)
        try:
            return self.found_or_made(name, form, make)
        except OSError as error:
            self.say(f"the cache in {self.folder} is not used: {error.strerror or error}")
            return None

    def found_or_made(self, name: str, form: Form, make: Make) -> NDArray[Any]:
        path, partial = self.folder / (name + SUFFIX), self.folder / (name + PARTIAL)
        seen, since = None, time.monotonic()
        while True:
            if self.is_there(path) and (array := self.mapped(path, form)) is not None:
                return array
            with open(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
                if locked(file, fcntl.LOCK_EX):
                    if identity(partial) != identity(file.fileno()):
                        continue  # renamed or removed by the one who had the lock: look again
                    if self.is_there(path):
                        partial.unlink()
                        continue
                    return self.made(path, partial, file, form, make)
                written = os.fstat(file.fileno()).st_mtime_ns
            if written != seen:
                if seen is None:
                    self.say("another training makes what this one needs; waiting for it")
                seen, since = written, time.monotonic()
            elif time.monotonic() - since > PATIENCE_S:
                raise TimeoutError(errno.ETIMEDOUT, f"the maker of {path.name} writes nothing any more")
            time.sleep(POLL_S)

    def made(self, path: Path, partial: Path, file: BinaryIO, form: Form, make: Make) -> NDArray[Any]:
        try:
            file.truncate(0)
            self.make_room(form.file_bytes)
            allocate(file, form.file_bytes)
            for block in make():
                file.write(np.ascontiguousarray(block, form.dtype).data)
            assert file.tell() == form.bytes, f"{file.tell()} bytes made for {form.shape}"
            file.flush()
            sums = checksums(form.map(file))
            file.seek(form.bytes)
            file.write(sums)
            file.flush()
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        fcntl.flock(file, fcntl.LOCK_SH)
        return form.map(file)

    def is_there(self, path: Path) -> bool:
        return identity(path) not in (None, *self.damaged)

    def mapped(self, path: Path, form: Form) -> NDArray[Any] | None:
        """The array in a file; None if that is gone, or damaged, which is said and remembered."""
        try:
            file = open(path, "rb")  # noqa: SIM115 (closed below)
        except FileNotFoundError:
            return None
        with file:
            if not locked(file, fcntl.LOCK_SH):  # it is being removed
                return None
            if os.fstat(file.fileno()).st_size == form.file_bytes:
                array = form.map(file)
                file.seek(form.bytes)
                if file.read() == checksums(array):
                    with contextlib.suppress(OSError):
                        os.utime(file.fileno())  # the least recently used goes first
                    return array
            self.damaged.add(identity(file.fileno()))
        self.say(f"{path} is damaged; it is made anew")
        return None

    def make_room(self, size: int) -> None:
        """Delete what is least recently used until `size` bytes more fit. Raises OSError when they never will."""
        for partial in self.folder.glob("*" + PARTIAL):
            remove_unused(partial)  # of makers that were killed
        files = sorted((used, path, bytes) for path, used, bytes in sized(self.folder))
        held, (whole, _, free) = sum(bytes for *_, bytes in files), shutil.disk_usage(self.folder)
        spare = int(whole * SPARE)
        arrays = sum(bytes for _, path, bytes in files if path.suffix == SUFFIX)
        if size > self.limit_bytes or size > free + arrays - spare:
            raise OSError(
                errno.ENOSPC,
                f"{size / 2**30:.1f} GiB do not fit ({free / 2**30:.1f} GiB are free, {spare / 2**30:.1f} GiB of them "
                f"stay so; at most {self.limit_bytes / 2**30:.1f} GiB are used)",
            )
        for _, path, bytes in files:
            if held + size <= self.limit_bytes and size <= free - spare:
                return
            if path.suffix == SUFFIX and remove_unused(path):
                held, free = held - bytes, free + bytes
        if held + size > self.limit_bytes or size > free - spare:
            raise OSError(errno.ENOSPC, f"{size / 2**30:.1f} GiB do not fit beside what other trainings use")


class Form:
    """What an array looks like in its file: the numbers, then a checksum (uint32) of each block of them."""

    def __init__(self, shape: Sequence[int], dtype: DTypeLike) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.bytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        self.file_bytes = self.bytes + 4 * -(-self.bytes // BLOCK_BYTES)

    def map(self, file: BinaryIO) -> NDArray[Any]:
        """The mapping keeps the open file, and so the lock, for as long as the array is used."""
        return np.memmap(file, self.dtype, "r", shape=self.shape)


def checksums(array: NDArray[Any]) -> bytes:
    content = array.reshape(-1).view(np.uint8).data
    blocks = [content[start : start + BLOCK_BYTES] for start in range(0, len(content), BLOCK_BYTES)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.fromiter(pool.map(zlib.crc32, blocks), np.uint32, len(blocks)).tobytes()


def allocate(file: BinaryIO, size: int) -> None:
    """Reserve the bytes, so that a full disk shows before the work and not amid it."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)


def identity(file: Path | int) -> tuple[int, int] | None:
    """Of a path or descriptor: what tells its file from any other there is; None if there is no such file."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def locked(file: BinaryIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sized(folder: Path) -> Iterator[tuple[Path, int, int]]:
    """(path, when it was used last, bytes on disk) of each file; those that vanish meanwhile are left out."""
    for path in folder.iterdir():
        if path.suffix in (SUFFIX, PARTIAL):
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                yield path, found.st_mtime_ns, found.st_size


def remove_unused(path: Path) -> bool:
    """Whether it could be removed: not while somebody holds a lock on it."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        if locked(file, fcntl.LOCK_EX) and identity(path) == identity(file.fileno()):
            path.unlink()
            return True
    return False
