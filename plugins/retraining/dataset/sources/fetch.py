"""A source as a tree of local files: what lies here, what has to be fetched, what has to be unpacked.

What a Memory knows to be unchanged is neither fetched nor unpacked: its names are there, its bytes are not.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from botocore.exceptions import ClientError

from retraining.archive_names import KINDS, is_archive, is_prefix
from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.archive import MAX_TOTAL_BYTES, unpack
from retraining.dataset.sources.archived import UNREADABLE, is_archived, require_restored
from retraining.dataset.sources.bucket import ObjectSource
from retraining.dataset.sources.digits import SIDE, write_digits
from retraining.dataset.sources.memory import Memory
from retraining.dataset.sources.tree import Leaf, Tree, read_tree
from retraining.dataset.stamp import WITHIN, Stamp, stamp_of, stamp_of_object
from retraining.download import DownloadError, download
from retraining.web_address import AddressError, WebAddress, without_secrets

log = logging.getLogger(__name__)

S3_ADDRESS = re.compile(r"s3://[A-Za-z0-9._-]{1,255}(?:/|$)")
NOT_HERE = Path("/unchanged, so not fetched")


def find_tree(source: str, scratch: Path, s3: Any, memory: Memory) -> Tree:
    """Raises SourceError, ArchiveError. What is fetched or unpacked lands in `scratch`."""
    kind, shown = _scheme(source), without_secrets(source)
    if source == "bundled://digits":
        stamp = f"digits {SIDE} {metadata.version('scikit-learn')}"
        return _whole(stamp, memory, lambda: _written_digits(scratch / "digits"))
    if kind == "bundled":
        raise SourceError(f"{source}: the only bundled data set is bundled://digits.")
    if kind == "s3":
        if not S3_ADDRESS.match(source):
            raise SourceError(
                f"{shown}: must be s3://bucket/prefix, with s3 in lower case and the bucket's own name, of letters, "
                "digits, dots and dashes; for an access point that is its alias."
            )
        if is_prefix(source):
            return ObjectSource.of(source).tree(s3, scratch)
        return _archive_in_s3(source, scratch, s3, memory)
    if kind in ("https", "http"):
        return _from_web(source, scratch, memory)
    if kind:
        raise SourceError(f"{shown}: {kind}:// is not read; known are https://, s3://, bundled:// and what lies here.")
    path = Path(source).expanduser()
    if path.is_dir():
        return read_tree(path)
    if path.is_file() and is_archive(path):
        return _whole(stamp_of(path.stat()), memory, lambda: _unpacked(path, scratch))
    if path.exists():
        raise SourceError(f"{shown} is neither a folder nor a {KINDS} file.")
    raise SourceError(
        f"{shown} does not exist on this machine. Name a folder or archive the Airflow worker can read, "
        "or s3://bucket/prefix."
    )


def fetched(source: str, scratch: Path, alone: str = "") -> Path:
    """An https address, an archive or a folder of this machine as a folder; what is fetched lands in `scratch`.

    `alone`: the ending of a file that is a source by itself, and is answered as it is.
    """
    path = (
        _downloaded(source, scratch, alone=alone)[0]
        if _scheme(source) in ("https", "http")
        else Path(source).expanduser()
    )
    assert path is not None  # nothing was known before
    if path.is_dir() or (path.is_file() and _is_alone(path, alone)):
        return path
    if not (path.is_file() and is_archive(path)):
        kinds = f"{alone}, .zip" if alone else ".zip"
        raise SourceError(
            f"{without_secrets(source)} is no folder and no {kinds}, .tar or .tar.gz file of this machine (nor a "
            ".tar.bz2 or .tar.xz), nor an https address."
        )
    return _unpacked(path, scratch)


def _scheme(source: str) -> str:
    """Of an address, lower case; empty for what is a path."""
    before, there, _ = source.partition("://")
    return before.strip().lower() if there and before.replace("+", "").replace(".", "").isalnum() else ""


def _whole(stamp: Stamp | None, memory: Memory, make: Callable[[], Path]) -> Tree:
    """The tree of what changes as one: as remembered while its stamp is the same, else of what `make` makes."""
    if known := memory.same_whole(stamp):
        log.info("The source is what it was at the last sync; it is not opened again.")
        leaves = {name: Leaf(path=NOT_HERE, stamp=_stamp_within(stamp)) for name in known.names}
        return Tree(leaves=leaves, empty=known.empty, whole=stamp, texts=dict(known.texts))
    tree = read_tree(make())
    tree.whole = stamp
    # Each file's own stamp is that of its copy, which is new every time.
    within = _stamp_within(stamp)
    tree.leaves = {name: _stamped(leaf, within) for name, leaf in tree.leaves.items()}
    return tree


def _stamp_within(whole: Stamp | None) -> Stamp | None:
    return f"{WITHIN}{whole}" if whole else None


def _stamped(leaf: Leaf, stamp: Stamp | None) -> Leaf:
    return Leaf(path=leaf.path, linked=leaf.linked, rejected=leaf.rejected, stamp=stamp)


def _written_digits(target: Path) -> Path:
    write_digits(target)
    return target


def _unpacked(archive: Path, scratch: Path) -> Path:
    target = scratch / "unpacked"
    target.mkdir()
    unpack(archive, target)
    return target


def _from_web(url: str, scratch: Path, memory: Memory) -> Tree:
    known = memory.whole.stamp if memory.whole else None
    path, stamp = _downloaded(url, scratch, known)
    return _whole(stamp, memory, lambda: _unpacked(path, scratch) if path else NOT_HERE)


def _is_alone(path: Path, ending: str) -> bool:
    return bool(ending) and path.name.lower().endswith(ending)


def _downloaded(
    url: str, scratch: Path, known: Stamp | None = None, *, alone: str = ""
) -> tuple[Path | None, Stamp | None]:
    """(None, `known`) where the server says that it still is what it was."""
    try:
        address = WebAddress.of(url)
        target = scratch / PurePosixPath(address.target.partition("?")[0]).name[-60:]
        if not is_archive(target) and not _is_alone(target, alone):
            raise SourceError(f"{address.place} must end in {f'{alone}, ' if alone else ''}{KINDS}.")
        answer = download(url, target, MAX_TOTAL_BYTES, known=known)
    except (AddressError, DownloadError) as error:
        raise SourceError(str(error)) from None
    return (target if answer.written else None), answer.version


def _archive_in_s3(source: str, scratch: Path, s3: Any, memory: Memory) -> Tree:
    bucket, _, key = source.removeprefix("s3://").partition("/")
    archive = scratch / PurePosixPath(key).name[-60:]

    def fetch() -> Path:
        require_restored(f"s3://{bucket}", [key] if is_archived(found) else ())
        s3.download_file(bucket, key, str(archive))
        return _unpacked(archive, scratch)

    try:
        found = s3.head_object(Bucket=bucket, Key=key)
        return _whole(stamp_of_object(found["ContentLength"], found["ETag"]), memory, fetch)
    except ClientError as error:
        if error.response["Error"].get("Code") == UNREADABLE:
            require_restored(f"s3://{bucket}", [key])
        raise SourceError(f"{source} cannot be fetched: {error.response['Error'].get('Message')}.") from error
