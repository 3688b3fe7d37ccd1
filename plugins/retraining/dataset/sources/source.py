"""Where images come from, as one list of local files with their class, and their split when the source has one.

A source is a folder, s3://bucket/prefix, a .zip or .tar(.gz, .bz2, .xz) file, an https address of one, or
bundled://digits. What its folders mean is decided in `layout`.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from retraining.archive_names import is_archive
from retraining.dataset.layouts.boxes import boxes
from retraining.dataset.layouts.file_names import proposal, understand_names
from retraining.dataset.layouts.ignored import why_path_ignored
from retraining.dataset.layouts.importable import are_packed, importer_of, unread
from retraining.dataset.layouts.layout import Understood, understand
from retraining.dataset.names import class_name, require_class_names
from retraining.dataset.pictures.verdict import Rejected
from retraining.dataset.source_error import SourceError, WithoutClassesError
from retraining.dataset.sources.fetch import fetched, find_tree
from retraining.dataset.sources.memory import Memory, Whole
from retraining.dataset.sources.tables import (
    by_named_table,
    by_tables,
    by_tables_of_splits,
    complete,
    divide_by_lists,
    heed,
    pixel_table,
)
from retraining.dataset.sources.tree import Tree
from retraining.dataset.split import SplitName
from retraining.dataset.stamp import Stamp
from retraining.printable import printable
from retraining.recipe.layout import Layout
from retraining.web_address import without_secrets

__all__ = ["SourceError", "SourceFile", "SourceFiles", "fetched", "open_source"]


@dataclass(frozen=True, kw_only=True, slots=True)
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
    key: str = ""
    """As the source calls it, to the byte: what a Memory knows it by."""
    stamp: Stamp | None = None
    """What tells whether it is still the file that was read."""


class SourceFiles(list[SourceFile]):
    """The files of a source, and how its folders were understood."""

    understood: Understood
    whole: Whole | None = None
    """Where all of it changes as one."""
    taken_ns: int = 0
    """When the source was listed."""
    archived: frozenset[str] = frozenset()
    """Keys of what S3 does not give before a restore."""
    scratch: Path
    """A folder for what is made of them, removed with what had to be fetched."""

    def unread(self, memory: Memory) -> list[SourceFile]:
        """Those that only reading them tells about."""
        return [file for file in self if file.rejected is None and memory.verdict(file.key, file.stamp) is None]


@contextmanager
def open_source(
    source: str, s3: Any, layout: Layout | None = None, memory: Memory | None = None, *, fetch: bool = True
) -> Iterator[SourceFiles]:
    """The files of a source. What had to be fetched or unpacked is removed afterwards.

    What `memory` knows to be unchanged may be there by its name alone, and every single object without `fetch`.
    """
    with tempfile.TemporaryDirectory(prefix="retraining-") as folder:
        scratch, taken_ns = Path(folder), time.time_ns()
        known = memory or Memory()
        tree = find_tree(source, scratch, s3, known)
        files = _files(without_secrets(source), tree, layout)
        if fetch:
            tree.bring([file.key for file in files.unread(known)])
        files.taken_ns, files.scratch, files.archived = taken_ns, scratch / "made", tree.archived
        files.scratch.mkdir()
        if tree.whole:
            names, empty = sorted(tree.leaves), sorted(tree.empty)
            files.whole = Whole(stamp=tree.whole, names=names, empty=empty, texts=tree.texts)
        del tree  # as large as what was made of it
        yield files


def _files(source: str, tree: Tree, layout: Layout | None) -> SourceFiles:
    """The files with their classes, if they make a classification problem at all."""
    understood = _understood(source, tree, layout or Layout())
    understood.followed = tree.followed
    for name in tree.loops:
        understood.leave_out("links that lead back", name)
    _require_classes(source, understood, tree)
    found = SourceFiles()
    found.understood = replace(understood, places={})  # which are the files below
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
                key=name,
                stamp=leaf.stamp,
            )
        )
    return found


def _understood(source: str, tree: Tree, layout: Layout) -> Understood:
    """By its folders; where these tell no classes, by the tables beside the images."""
    if layout.table:
        return by_named_table(source, tree, layout)
    if layout.class_pattern:
        return understand_names(source, tree.leaves, layout.class_pattern)
    found, refusal = None, ""
    try:
        found = understand(source, tree.leaves, tree.empty, layout)
    except WithoutClassesError as error:
        refusal = str(error)
    except SourceError:
        if not layout.names_folders and (told := by_tables_of_splits(tree)):
            return told
        raise
    if found and found.tells_classes:
        if layout.names_folders:
            return found
        if told := by_tables_of_splits(tree):
            return told
        heed(source, found, tree)
        divide_by_lists(found, tree)
        complete(found, tree)
        return found
    reasons: list[str] = []
    if not layout.names_folders:
        told, reasons = by_tables(source, tree)
        if told:
            return told
    reasons += filter(None, [proposal(tree.leaves), boxes(tree.leaves)])
    if found is None:
        raise SourceError(refusal + "".join(f"\n    {reason}" for reason in reasons))
    found.refused = reasons
    return found


def _require_classes(source: str, understood: Understood, tree: Tree) -> None:
    folders = {(above, folder) for _, above, folder in understood.places.values()}
    labels = sorted({class_name(folder) for _, folder in folders})
    if are_packed(understood.places):  # Kaggle's MNIST has a folder for each of its files
        labels = []
    if len(labels) > 1:
        counts = Counter(class_name(folder) for _, _, folder in understood.places.values())
        of_folders = any(label in name.split("/") for name, (_, _, label) in understood.places.items())
        require_class_names(source, folders, counts, () if of_folders else understood.tables)
        return
    beside = _beside(source, understood, tree)
    if not labels:
        raise SourceError(
            f"{source} holds no images in class folders. Expected <class>/<image>.jpg or .png."
            f"{f' What is there:{beside}' if beside else ''}"
        )
    raise SourceError(
        f"{source} holds one class only, {printable(labels[0])!r}: there is nothing to tell apart. "
        "Each class needs a folder of its own, at least two of them."
        f"{f' What is left out:{beside}' if beside else ''}"
    )


def _beside(source: str, understood: Understood, tree: Tree) -> str:
    """What lies where class folders should, and what may be done with it."""
    beside = "".join(
        f"\n    {why}: {some.files} files ({', '.join(some.examples)})" for why, some in understood.left_out.items()
    )
    examples = [name for some in understood.left_out.values() for name in some.examples]
    if packed := next((name for name in examples if is_archive(PurePath(name))), None):
        beside += f"\n    {packed} is not looked into: name it itself as the source, or unpack it."
    seen = [name for name in tree.leaves if why_path_ignored(name) in (None, "notes")]
    if found := importer_of(seen) or pixel_table(tree):
        importer, file = found
        # Importers read what lies here, or an address.
        copied = f" (of a copy: aws s3 cp --recursive {source} COPY)" if source.startswith("s3://") else ""
        beside += (
            f"\n    {printable(file)}: if pictures and classes are in such files, write them as class folders first"
            f"{copied}: python -m retraining.dataset import {importer} {'COPY' if copied else source} FOLDER."
        )
    elif told := unread(seen):
        beside += f"\n    {told}"
    return beside + "".join(f"\n    {reason}" for reason in understood.refused)
