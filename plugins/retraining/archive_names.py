"""What is an archive, and what single objects, by their names alone. Pure."""

from __future__ import annotations

from pathlib import PurePath

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
KINDS = ".zip, .tar, .tar.gz, .tar.bz2 or .tar.xz"


def is_archive(path: PurePath) -> bool:
    """By its name, in any case."""
    return path.name.lower().endswith(SUFFIXES)


def is_prefix(source: str) -> bool:
    """Whether a source is the objects below an S3 prefix, each of which can be had by itself."""
    _, _, key = source.removeprefix("s3://").partition("/")
    return source.startswith("s3://") and not is_archive(PurePath(key))
