"""Where images come from, as one list of local files with their class, and their split when the source has one.

A source is a folder, s3://bucket/prefix, a .zip or .tar(.gz) file, an https address of one, or bundled://digits.
Inside, the folders are the classes; train, validation (or valid, val) and test folders above them are kept as splits.
"""

from __future__ import annotations

import logging
import tempfile
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import urlparse

from retraining.dataset.archive import MAX_TOTAL_BYTES, is_archive, unpack
from retraining.dataset.digits import write_digits
from retraining.dataset.ignored import ignored
from retraining.dataset.limits import MAX_BYTES
from retraining.dataset.split import SplitName
from retraining.dataset.verify import Rejected
from retraining.download import DownloadError, download

log = logging.getLogger(__name__)

SPLIT_FOLDERS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
THREADS = 10  # as many connections as a boto3 client keeps


class SourceError(ValueError):
    """There is no usable image data at this source."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file that claims to be an image of a class."""

    path: Path
    label: str
    split: SplitName | None
    name: str
    """As the source calls it; for people, never joined to a path."""
    rejected: Rejected | None = None
    """Set when the file was judged without being fetched."""


@contextmanager
def open_source(source: str, s3: Any) -> Iterator[list[SourceFile]]:
    """The files of a source. What had to be fetched or unpacked is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="retraining-") as scratch:
        yield _find(source, Path(scratch), s3)


def _find(source: str, scratch: Path, s3: Any) -> list[SourceFile]:
    kind = urlparse(source).scheme
    if source == "bundled://digits":
        write_digits(scratch / "digits")
        return _checked(source, _walk(scratch / "digits"))
    if kind == "bundled":
        raise SourceError(f"{source}: the only bundled data set is bundled://digits.")
    if kind == "s3":
        return _checked(source, _fetch_s3(source, scratch, s3))
    if kind == "https":
        return _checked(source, _walk(_unpacked(_download(source, scratch), scratch)))
    if kind == "http":
        raise SourceError(f"{source}: plain http can be changed on the way; use https, or download it yourself.")
    path = Path(source).expanduser()
    if path.is_dir():
        return _checked(source, _walk(path))
    if path.is_file() and is_archive(path):
        return _checked(source, _walk(_unpacked(path, scratch)))
    if path.exists():
        raise SourceError(f"{source} is neither a folder nor a .zip, .tar or .tar.gz file.")
    raise SourceError(
        f"{source} does not exist on this machine. Name a folder or archive the Airflow worker can read, "
        "or s3://bucket/prefix."
    )


def fetched(source: str, scratch: Path) -> Path:
    """An https address, an archive or a folder of this machine as a folder; what is fetched lands in `scratch`."""
    path = _download(source, scratch) if urlparse(source).scheme == "https" else Path(source).expanduser()
    if path.is_dir():
        return path
    if not (path.is_file() and is_archive(path)):
        raise SourceError(
            f"{source} is no folder and no .zip, .tar or .tar.gz file of this machine, nor an https address."
        )
    return _unpacked(path, scratch)


def _walk(root: Path) -> list[SourceFile]:
    """Files below a folder. Links to folders are not followed; links to files are judged, and rejected, later."""
    files = [path for path in sorted(root.rglob("*")) if not path.is_dir()]
    return _labelled([(path.relative_to(root).as_posix(), path, None) for path in files])


def _unpacked(archive: Path, scratch: Path) -> Path:
    target = scratch / "unpacked"
    target.mkdir()
    unpack(archive, target)
    return target


def _download(url: str, scratch: Path) -> Path:
    name = PurePosixPath(urlparse(url).path).name
    target = scratch / name
    if not is_archive(target):
        raise SourceError(f"{url} must end in .zip, .tar, .tgz or .tar.gz.")
    try:
        download(url, target, MAX_TOTAL_BYTES)
    except DownloadError as error:
        raise SourceError(str(error)) from error
    return target


def _fetch_s3(source: str, scratch: Path, s3: Any) -> list[SourceFile]:
    """Objects land under numbers: a key may be any text, and no text of a stranger becomes a path."""
    parts = urlparse(source)
    prefix = parts.path.strip("/")
    if prefix and is_archive(Path(prefix)):
        archive = scratch / PurePosixPath(prefix).name
        s3.download_file(parts.netloc, prefix, str(archive))
        return _walk(_unpacked(archive, scratch))
    prefix = f"{prefix}/" if prefix else ""
    listed: list[tuple[str, Path, Rejected | None]] = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=parts.netloc, Prefix=prefix):
        for entry in page.get("Contents", []):
            name, path = entry["Key"].removeprefix(prefix), scratch / str(len(listed))
            if entry["Key"].endswith("/"):
                continue
            too_big = Rejected(code="TOO_BIG_BYTES", detail=f"{entry['Size']} bytes, at most {MAX_BYTES}")
            listed.append((name, path, too_big if entry["Size"] > MAX_BYTES else None))
    wanted = [(name, path) for name, path, rejected in listed if rejected is None]
    log.info("Fetching %d objects from %s.", len(wanted), source)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda item: s3.download_file(parts.netloc, prefix + item[0], str(item[1])), wanted))
    return _labelled(listed)


def _labelled(files: list[tuple[str, Path, Rejected | None]]) -> list[SourceFile]:
    """Class and split from the folders of each name; files that are no one's image are left out and counted."""
    parts = {name: name.split("/") for name, _, _ in files if not any(map(ignored, name.split("/")))}
    # Many archives wrap everything in one folder of their own name.
    while parts and len({p[0] for p in parts.values()}) == 1 and all(len(p) > 2 for p in parts.values()):
        parts = {name: p[1:] for name, p in parts.items()}
    has_splits = bool(parts) and {p[0].lower() for p in parts.values() if len(p) > 1} <= SPLIT_FOLDERS.keys()
    found, stray = [], len(files) - len(parts)
    for name, path, rejected in files:
        folders = parts.get(name, [])[:-1]
        split = None
        if has_splits and len(folders) > 1:
            split = cast(SplitName, SPLIT_FOLDERS[folders[0].lower()])
            folders = folders[1:]
        elif has_splits or not folders:
            stray += name in parts
            continue
        label = unicodedata.normalize("NFC", folders[0])
        found.append(SourceFile(path=path, label=label, split=split, name=name, rejected=rejected))
    if stray:
        log.info("%d files outside the class folders (notes, thumbnails, system files) are ignored.", stray)
    return found


def _checked(source: str, files: list[SourceFile]) -> list[SourceFile]:
    """The files, if they make a classification problem at all."""
    labels = sorted({file.label for file in files})
    if not labels:
        raise SourceError(f"{source} holds no images in class folders. Expected <class>/<image>.jpg or .png.")
    if len(labels) == 1:
        raise SourceError(
            f"{source} holds one class only, {labels[0]!r}: there is nothing to tell apart. "
            "Each class needs a folder of its own, at least two of them."
        )
    for label in labels:
        if not label[0].isalnum() or len(label) > 100 or not all(c.isalnum() or c in " _-.+()&," for c in label):
            raise SourceError(
                f"{source}: class folder {label!r} cannot be a class name; use up to 100 letters, digits, spaces "
                "and _-.+()&, beginning with a letter or digit."
            )
    folded: dict[str, str] = {}
    for label in labels:
        if (twin := folded.setdefault(label.casefold(), label)) != label:
            raise SourceError(f"{source}: classes {twin!r} and {label!r} differ only in case; rename or merge them.")
    return files
