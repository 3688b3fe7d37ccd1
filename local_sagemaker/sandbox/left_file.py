"""A file where a job may have left anything else: a link leads elsewhere, and a FIFO makes who opens it wait."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


class NoFileError(FileNotFoundError):
    """Something else stands at the place of a file."""


def opener(path: str, flags: int) -> int:
    """For `open`, which then neither waits nor follows a link. Raises OSError, NoFileError for what is no file."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket, or a pipe that nobody reads
            raise NoFileError(f"{path} is no file") from None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise NoFileError(f"{path} is no file")


def head(path: Path, size_bytes: int) -> bytes:
    """Its first bytes; none of what is no regular file."""
    try:
        with open(path, "rb", opener=opener) as file:
            return file.read(size_bytes)
    except OSError:
        return b""


def not_a_folder(path: Path) -> str | None:
    """What stands at the place of a folder instead; None for a folder, and for nothing."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    if stat.S_ISDIR(mode):
        return None
    return "a link" if stat.S_ISLNK(mode) else "a file" if stat.S_ISREG(mode) else "neither a file nor a folder"
