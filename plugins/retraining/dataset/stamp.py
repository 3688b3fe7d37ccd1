"""What tells whether a file is still the one that was read, without reading it."""

from __future__ import annotations

import os
import re

Stamp = str
"""Of a file: size, modification, change (both in ns) and inode. Of an S3 object: its size and ETag."""

WITHIN = "in "
"""Before the stamp of an archive, which is that of every file in it."""
_FILES = re.compile(r"\d{1,20}:(\d{1,20}):(\d{1,20}):\d{1,20}")

COARSE_NS, FINE_NS = 2_000_000_000, 50_000_000
"""How long a file system may give two changes the same time: FAT two seconds, Linux' own a tick of its clock."""


def stamp_of(status: os.stat_result) -> Stamp:
    """The change time too: `touch -r` and `rsync -t` set the modification time, nobody sets this one."""
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def stamp_of_object(size: int, etag: str) -> Stamp:
    """As a listing tells it."""
    return f"{size}:{etag.strip(chr(34))}"


def is_files(stamp: Stamp) -> bool:
    """Whether it is that of a file of this machine."""
    return _FILES.fullmatch(stamp) is not None


def may_have_changed_since(stamp: Stamp, taken_ns: int) -> bool:
    """Whether a file with this stamp may have been written once more at the moment `taken_ns`, without a new one."""
    times = _FILES.fullmatch(stamp.removeprefix(WITHIN))
    if times is None:
        return False
    latest = max(map(int, times.groups()))
    tick = COARSE_NS if latest % 1_000_000_000 == 0 else FINE_NS
    return latest >= taken_ns - tick
