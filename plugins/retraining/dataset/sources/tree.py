"""A folder of this machine as the names of its files. Links are followed, for data sets are built of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retraining.dataset.layouts.ignored import why_ignored
from retraining.dataset.pictures.verdict import Rejected
from retraining.dataset.source_error import SourceError
from retraining.dataset.stamp import Stamp, stamp_of
from retraining.printable import printable

MAX_ENTRIES = 5_000_000


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One file, or what stands where a file should."""

    path: Path
    """Where it really is, links followed."""
    linked: bool = False
    """Reached over a link: its bytes may be another's, so that they are not copied unless they are an image."""
    rejected: Rejected | None = None
    stamp: Stamp | None = None
    """What tells whether it is still the file that was read; None where nothing does."""


@dataclass(kw_only=True)
class Tree:
    """What lies below a folder; names have `/` between their parts, and any bytes in them."""

    leaves: dict[str, Leaf] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    followed: int = 0
    loops: list[str] = field(default_factory=list)
    """Links that lead back to a folder they are in."""
    whole: Stamp | None = None
    """Of the archive or address that all of it comes from."""
    texts: dict[str, str] = field(default_factory=dict)
    """Of the tables that were read, by their names."""
    archived: frozenset[str] = frozenset()
    """Names of what S3 does not give before a restore."""
    bring: Callable[[Sequence[str]], None] = lambda names: None
    """Sees to it that the files of these names are where their leaves say."""


def read_tree(root: Path) -> Tree:
    """Raises SourceError for a folder that may not be read: images must not be missing without a word."""
    tree = Tree()
    for number, entry in enumerate(_entries(tree, root, "", (root.resolve(),), linked=False)):
        if number > MAX_ENTRIES:
            raise SourceError(f"{root} has more than {MAX_ENTRIES} files, or links that repeat them; split it.")
        tree.leaves[entry[0]] = entry[1]
    return tree


def _entries(
    tree: Tree, folder: Path, above: str, ancestors: tuple[Path, ...], *, linked: bool
) -> Iterator[tuple[str, Leaf]]:
    try:
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise SourceError(f"{printable(str(folder))} cannot be read ({error.strerror}); allow the worker to.") from None
    seen = False
    for entry in found:
        name, path = f"{above}{entry.name}", Path(entry.path)
        is_link, status = entry.is_symlink(), _status(entry)
        is_folder = status is not None and stat.S_ISDIR(status.st_mode)
        why = why_ignored(entry.name, folder=is_folder)
        # Notes make a folder one of notes; what systems leave behind does not make it any.
        seen |= why not in ("hidden", "of a system")
        if why:
            yield name, Leaf(path=path)
            continue
        tree.followed += is_link
        if not is_folder:
            stamp = stamp_of(status) if status and stat.S_ISREG(status.st_mode) else None
            yield name, _leaf(path, stamp, is_link=is_link, linked=linked or is_link)
        elif (real := path.resolve()) in ancestors:
            tree.loops.append(name)
        else:
            yield from _entries(tree, path, f"{name}/", (*ancestors, real), linked=linked or is_link)
    if not seen and above:
        tree.empty.append(above.rstrip("/"))


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Of what a link leads to; None where it leads nowhere."""
    try:
        return entry.stat()
    except OSError:
        return None


def _leaf(path: Path, stamp: Stamp | None, *, is_link: bool, linked: bool) -> Leaf:
    if not is_link:
        return Leaf(path=path, linked=linked, stamp=stamp)
    try:
        return Leaf(path=path.resolve(strict=True), linked=True, stamp=stamp)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return Leaf(path=path, linked=True, rejected=Rejected(code="NOT_REGULAR", detail="a link that leads nowhere"))
