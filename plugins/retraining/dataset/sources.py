"""Where images come from, as one list of local files with their class, and their split when the source has one.

A source is a folder, s3://bucket/prefix, a .zip or .tar(.gz, .bz2, .xz) file, an https address of one, or
bundled://digits. What its folders mean is decided in `layout`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from botocore.exceptions import ClientError

from retraining.dataset.archive import KINDS, MAX_TOTAL_BYTES, is_archive, unpack
from retraining.dataset.digits import write_digits
from retraining.dataset.ignored import ignored
from retraining.dataset.layout import Understood, understand
from retraining.dataset.limits import MAX_BYTES
from retraining.dataset.names import class_name, printable, require_class_names
from retraining.dataset.source_error import SourceError
from retraining.dataset.split import SplitName
from retraining.dataset.tree import Leaf, Tree, read_tree
from retraining.dataset.verify import Rejected
from retraining.download import DownloadError, download
from retraining.recipe.layout import Layout
from retraining.web_address import AddressError, WebAddress, without_secrets

__all__ = ["SourceError", "SourceFile", "SourceFiles", "fetched", "open_source"]

log = logging.getLogger(__name__)

THREADS = 10  # as many connections as a boto3 client keeps


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file that claims to be an image of a class."""

    path: Path
    label: str
    split: SplitName | None
    name: str
    """As the source calls it, on one line of text; for people, never joined to a path."""
    rejected: Rejected | None = None
    """Set when the file was judged without being fetched."""
    linked: bool = False
    """Reached over a link: its bytes are copied only when they are an image."""


class SourceFiles(list[SourceFile]):
    """The files of a source, and how its folders were understood."""

    understood: Understood


@contextmanager
def open_source(source: str, s3: Any, layout: Layout | None = None) -> Iterator[SourceFiles]:
    """The files of a source. What had to be fetched or unpacked is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="retraining-") as scratch:
        yield _files(without_secrets(source), _find(source, Path(scratch), s3), layout)


def _find(source: str, scratch: Path, s3: Any) -> Tree:
    kind, shown = _scheme(source), without_secrets(source)
    if source == "bundled://digits":
        write_digits(scratch / "digits")
        return read_tree(scratch / "digits")
    if kind == "bundled":
        raise SourceError(f"{source}: the only bundled data set is bundled://digits.")
    if kind == "s3":
        return _fetch_s3(source, scratch, s3)
    if kind in ("https", "http"):
        return read_tree(_unpacked(_download(source, scratch), scratch))
    if kind:
        raise SourceError(f"{shown}: {kind}:// is not read; known are https://, s3://, bundled:// and what lies here.")
    path = Path(source).expanduser()
    if path.is_dir():
        return read_tree(path)
    if path.is_file() and is_archive(path):
        return read_tree(_unpacked(path, scratch))
    if path.exists():
        raise SourceError(f"{shown} is neither a folder nor a {KINDS} file.")
    raise SourceError(
        f"{shown} does not exist on this machine. Name a folder or archive the Airflow worker can read, "
        "or s3://bucket/prefix."
    )


def _scheme(source: str) -> str:
    """Of an address, lower case; empty for what is a path."""
    before, there, _ = source.partition("://")
    return before.strip().lower() if there and before.replace("+", "").replace(".", "").isalnum() else ""


def fetched(source: str, scratch: Path) -> Path:
    """An https address, an archive or a folder of this machine as a folder; what is fetched lands in `scratch`."""
    path = _download(source, scratch) if _scheme(source) in ("https", "http") else Path(source).expanduser()
    if path.is_dir():
        return path
    if not (path.is_file() and is_archive(path)):
        raise SourceError(
            f"{without_secrets(source)} is no folder and no .zip, .tar or .tar.gz file of this machine (nor a .tar.bz2 "
            "or .tar.xz), nor an https address."
        )
    return _unpacked(path, scratch)


def _files(source: str, tree: Tree, layout: Layout | None) -> SourceFiles:
    """The files with their classes, if they make a classification problem at all."""
    understood = understand(source, tree.leaves, tree.empty, layout)
    understood.followed = tree.followed
    for name in tree.loops:
        understood.leave_out("links that lead back", name)
    _require_classes(source, understood)
    found = SourceFiles()
    found.understood = understood
    for name, (split, _, folder) in understood.places.items():
        leaf = tree.leaves[name]
        found.append(
            SourceFile(
                path=leaf.path,
                label=class_name(folder),
                split=split,
                name=printable(name),
                rejected=leaf.rejected,
                linked=leaf.linked,
            )
        )
    return found


def _require_classes(source: str, understood: Understood) -> None:
    folders = {(above, folder) for _, above, folder in understood.places.values()}
    labels = sorted({class_name(folder) for _, folder in folders})
    if not labels:
        why = "".join(
            f"\n    {why}: {some.files} files ({', '.join(some.examples)})" for why, some in understood.left_out.items()
        )
        raise SourceError(
            f"{source} holds no images in class folders. Expected <class>/<image>.jpg or .png."
            f"{f' What is there:{why}' if why else ''}"
        )
    if len(labels) == 1:
        raise SourceError(
            f"{source} holds one class only, {printable(labels[0])!r}: there is nothing to tell apart. "
            "Each class needs a folder of its own, at least two of them."
        )
    require_class_names(source, folders)


def _unpacked(archive: Path, scratch: Path) -> Path:
    target = scratch / "unpacked"
    target.mkdir()
    unpack(archive, target)
    return target


def _download(url: str, scratch: Path) -> Path:
    try:
        address = WebAddress.of(url)
        target = scratch / PurePosixPath(address.target.partition("?")[0]).name[-60:]
        if not is_archive(target):
            raise SourceError(f"{address.place} must end in {KINDS}.")
        download(url, target, MAX_TOTAL_BYTES)
    except (AddressError, DownloadError) as error:
        raise SourceError(str(error)) from None
    return target


def _fetch_s3(source: str, scratch: Path, s3: Any) -> Tree:
    """Objects land under numbers: a key may be any text, and no text of a stranger becomes a path."""
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    if prefix and is_archive(Path(prefix)):
        archive = scratch / PurePosixPath(prefix).name[-60:]
        try:
            s3.download_file(bucket, prefix, str(archive))
        except ClientError as error:
            raise SourceError(f"{source} cannot be fetched: {error.response['Error'].get('Message')}.") from error
        return read_tree(_unpacked(archive, scratch))
    prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    tree, wanted = Tree(), list[tuple[str, Path]]()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            name, path = entry["Key"].removeprefix(prefix), scratch / str(len(tree.leaves))
            if entry["Key"].endswith("/"):  # how consoles mark a folder
                tree.empty.append(name.rstrip("/"))
                continue
            too_big = Rejected(code="TOO_BIG_BYTES", detail=f"{entry['Size']} bytes, at most {MAX_BYTES}")
            tree.leaves[name] = Leaf(path=path, rejected=too_big if entry["Size"] > MAX_BYTES else None)
            if entry["Size"] <= MAX_BYTES and not _is_ignored(name):
                wanted.append((entry["Key"], path))
    log.info("Fetching %d objects from %s.", len(wanted), source)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda item: s3.download_file(bucket, item[0], str(item[1])), wanted))
    return tree


def _is_ignored(name: str) -> bool:
    return any(map(ignored, name.split("/")))
