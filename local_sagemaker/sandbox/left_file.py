"""A file that a job left for the server to read, which may be anything but a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def head(path: Path, size_bytes: int) -> bytes:
    """Its first bytes; none of what is no regular file: a link leads elsewhere, and a FIFO makes who opens it wait."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(descriptor, size_bytes) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


def not_a_folder(path: Path) -> str | None:
    """What stands at the place of a folder instead; None for a folder, and for nothing."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    if stat.S_ISDIR(mode):
        return None
    return "a link" if stat.S_ISLNK(mode) else "a file" if stat.S_ISREG(mode) else "neither a file nor a folder"
