"""Room on the disk: what a job may take, so that it fails for itself before the server's own databases do."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from local_sagemaker.failures import JobFailedError

RESERVED_BYTES = 256 * 2**20
"""What is left free for the server's own state; no job may use it."""

# Walking a big tree takes its time: it is done at most this often, and never for more than a twentieth of the time.
_WALK_INTERVAL_S = 5.0
_WALK_SHARE = 20
_CLEANING_S = 5.0


def require(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise JobFailedError when `needed_bytes` more would not fit on the disk of `folder`.

    What a job that has just ended wrote may still be on its way out, so a full disk is looked at for a while.
    """
    until = time.monotonic() + _CLEANING_S
    while needed_bytes > (available := max(0, free_bytes(folder) - RESERVED_BYTES)) and time.monotonic() < until:
        time.sleep(0.1)
    if needed_bytes > available:
        raise JobFailedError(
            f"ClientError: {what} needs {needed_bytes} bytes, and the disk of {folder} has {available} for jobs; "
            "free some, or start local_sagemaker with --root on a bigger disk"
        )


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def used_bytes(folder: Path) -> int:
    """What the files below a folder take on the disk; links are not followed, other file systems not entered."""
    total = 0
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    stat = entry.stat(follow_symlinks=False)
                    total += stat.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
        except OSError:  # removed by its job meanwhile
            continue
    return total


def remove(folder: Path) -> None:
    """Remove a folder as far as that can be done, also one that is nested more deeply than Python recurses."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False, stderr=subprocess.DEVNULL)


class Quota:
    """What one job's folder may take. Not thread-safe: the thread that follows the job asks it now and then."""

    def __init__(self, folder: Path, volume_bytes: int | None = None) -> None:
        """`volume_bytes` is the instance's volume (VolumeSizeInGB); None bounds the job by the disk alone."""
        self._folder = folder
        self._volume_bytes = volume_bytes
        self._next_walk = time.monotonic() + _WALK_INTERVAL_S

    def problem(self) -> str | None:
        """Why the job has to end now (a FailureReason), if it has to. Cheap: may be asked many times a second.

        On a disk that others fill, a job that has itself written less than the reserve goes on.
        """
        free = free_bytes(self._folder)
        now = time.monotonic()
        if free >= RESERVED_BYTES and now < self._next_walk:
            return None
        used = used_bytes(self._folder)
        self._next_walk = time.monotonic() + max(_WALK_INTERVAL_S, _WALK_SHARE * (time.monotonic() - now))
        if self._volume_bytes is not None and used > self._volume_bytes:
            return (
                f"ClientError: the job has written {used} bytes, more than its VolumeSizeInGB "
                f"({self._volume_bytes // 2**30}); write less or ask for a bigger volume"
            )
        if free < RESERVED_BYTES and used > RESERVED_BYTES // 8:
            return (
                f"ClientError: the disk is full: the job has written {used} bytes, and {free} are left on the disk of "
                f"{self._folder}; write less, or start local_sagemaker with --root on a bigger disk"
            )
        return None
