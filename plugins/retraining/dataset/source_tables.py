"""The tables that lie in a source, read as far as its folders leave anything open."""

from __future__ import annotations

import stat
from collections.abc import Iterable

from retraining.dataset.by_table import together, understand_table
from retraining.dataset.fetch import NOT_HERE
from retraining.dataset.layout import Understood
from retraining.dataset.names import printable
from retraining.dataset.source_error import SourceError
from retraining.dataset.store import Forgotten
from retraining.dataset.table import MAX_BYTES, Table, decoded, is_maybe, levels, named, read_table
from retraining.dataset.tree import Tree
from retraining.recipe.layout import Layout

MAX_TABLES = 8
"""That are read of a source, or for one of its folders."""
LEAST = 0.5
"""Of the images of a folder; a table that has the classes of fewer is of others."""


def by_named_table(source: str, tree: Tree, layout: Layout) -> Understood:
    """As the recipe's layout.table says. Raises SourceError."""
    name = named(tree.leaves, str(layout.table))
    if name is None:
        raise SourceError(f"{source}: layout.table of the recipe is {layout.table!r}, but no such file is there.")
    if not tree.texts.get(name, "?"):  # it was read when nobody had named it, and not kept
        del tree.texts[name]
    return understand_table(_read(tree, name), tree.leaves, layout)


def by_tables(source: str, tree: Tree) -> tuple[Understood | None, list[str]]:
    """What tables tell of all images, or None, and why others do not. Raises SourceError where several do."""
    reasons, left = list[str](), MAX_TABLES
    for level in levels(tree.leaves):
        found = dict[str, Understood]()
        for name in level[:left]:
            try:
                found[name] = understand_table(_read(tree, name), tree.leaves)
            except SourceError as error:
                reasons += [] if is_maybe(name) else [str(error)]
                _forget(tree, name)
        left -= len(level)
        found = {name: one for name, one in found.items() if one.tells_classes}
        if one := together(found, tree.leaves) if len(found) > 1 else next(iter(found.values()), None):
            return one, reasons
        if found:
            names = ", ".join(map(printable, found))
            raise SourceError(
                f"{source}: each of {names} tells classes. "
                f"Put into the recipe `layout: {{table: {printable(min(found))}}}`, or another of them."
            )
        if left <= 0:
            break
    return None, reasons


def complete(found: Understood, tree: Tree) -> None:
    """Classes for the images of split folders that have no class folders: val/ with its val_annotations.txt."""
    known = {label for _, _, label in found.places.values()}
    for folder, (_, images) in list(found.unlabelled.items()):
        for name in _beside(folder, tree.leaves):
            try:
                one = understand_table(_read(tree, name), images, known=known)
            except SourceError:
                _forget(tree, name)
                continue
            if len(one.places) >= LEAST * len(images):
                found.label(folder, one)
                break


def _beside(folder: str, names: Iterable[str]) -> list[str]:
    """The tables of a source, those in the folder first."""
    tables = [name for level in levels(names) for name in level]
    return sorted(tables, key=lambda name: not name.startswith(f"{folder}/"))[:MAX_TABLES]


def _forget(tree: Tree, name: str) -> None:
    """Remembered is that it tells nothing, and not the whole of a text that is none of ours."""
    if is_maybe(name) and name in tree.texts:
        tree.texts[name] = ""


def _read(tree: Tree, name: str) -> Table:
    return read_table(name, _text(tree, name))


def _text(tree: Tree, name: str) -> str:
    """Of a table, which is remembered with what it tells about: of an archive that is not opened again, too."""
    if name not in tree.texts:
        leaf = tree.leaves[name]
        if leaf.path == NOT_HERE:
            raise Forgotten(f"{printable(name)} was not read at the last sync")
        if leaf.rejected:
            raise SourceError(f"{printable(name)} is not read as a table: {leaf.rejected.detail}.")
        tree.bring([name])
        try:
            status = leaf.path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                raise SourceError(
                    f"{printable(name)} is not read as a table: that is a plain file of at most {MAX_BYTES} bytes."
                )
            tree.texts[name] = decoded(name, leaf.path.read_bytes())
        except OSError as error:
            raise SourceError(f"{printable(name)} cannot be read ({error.strerror}); allow the worker to.") from None
    return tree.texts[name]
