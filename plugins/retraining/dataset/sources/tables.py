"""The tables that lie in a source, read as far as its folders leave anything open."""

from __future__ import annotations

import logging
import stat
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from retraining.code_pages import WINDOWS
from retraining.dataset.layouts.by_table import listed, together, understand_table, why_silent
from retraining.dataset.layouts.ignored import why_path_ignored
from retraining.dataset.layouts.layout import Understood
from retraining.dataset.layouts.pixel_columns import pixel_columns, separator_of
from retraining.dataset.layouts.proposed import layout
from retraining.dataset.layouts.table import (
    MAX_BYTES,
    Table,
    encoding_of,
    is_maybe,
    kinds,
    levels,
    lists_of_splits,
    named,
    read_table,
    tables_of_splits,
)
from retraining.dataset.pictures.verify import GIT_LFS
from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.fetch import NOT_HERE
from retraining.dataset.sources.memory import Forgotten
from retraining.dataset.sources.tree import Tree
from retraining.printable import printable, some_of
from retraining.recipe.layout import Layout

log = logging.getLogger(__name__)

MAX_TABLES = 8
"""That are read for one folder of a source, or where folders tell the classes."""
MOST_TABLES = 32
"""That are read of a source where nothing else tells them: three kinds of classes in four splits, and more."""
LINE_BYTES = 64 * 1024
"""Of a table's first line, to tell what it is."""
MOST, AGREE = 0.8, 0.95
"""Of the images: which a table has to name to count against folders, and of which its class follows from theirs."""
MOST_LISTS = 4
"""Folders with lists of splits that are read."""
LEAST = 0.5
"""Of the images of a folder; a table that has the classes of fewer is of others."""


def by_named_table(source: str, tree: Tree, said: Layout) -> Understood:
    """As the recipe's layout.table says. Raises SourceError."""
    found = dict[str, Understood]()
    for name in (names := named(tree.leaves, str(said.table))[: MOST_TABLES + 1]):
        if not tree.texts.get(name, "?"):  # it was read when nobody had named it, and not kept
            del tree.texts[name]
        found[name] = understand_table(_read(tree, name), tree.leaves, said)
    if not names:
        raise SourceError(f"{source}: layout.table of the recipe is {said.table!r}, but no such file is there.")
    if len(found) == 1:
        return found[names[0]]
    if whole := together(found, tree.leaves):
        return whole
    raise SourceError(
        f"{source}: layout.table of the recipe is {said.table!r}, and {some_of(names)} are not called as one table of "
        "each split is: train, val and test. Name one of them, or leave * for these words alone."
    )


def by_tables(source: str, tree: Tree) -> tuple[Understood | None, list[str]]:
    """What tables tell of all images, or None, and why others do not. Raises SourceError where several do."""
    reasons, left = list[str](), MOST_TABLES
    images = {_stem(name) for name in tree.leaves if not why_path_ignored(name)}
    for level in levels(name for name in tree.leaves if not (is_maybe(name) and _stem(name) in images)):
        found = dict[str, Understood]()
        for name in level[:left]:
            try:
                found[name] = understand_table(_read(tree, name), tree.leaves)
            except SourceError as error:
                reasons += [] if is_maybe(name) else [str(error)]
                _forget(tree, name)
        left -= len(level)
        whole = together(found, tree.leaves) if len(found) > 1 else None
        if whole and whole.tells_classes:
            return whole, reasons
        silent = [name for name, one in found.items() if not one.tells_classes]
        reasons += [why_silent(name, found.pop(name)) for name in silent]
        if len(found) == 1:
            return found.popitem()[1], reasons
        if found:
            forms = kinds(found)
            raise SourceError(
                f"{source}: each of {', '.join(map(printable, forms))} tells classes. "
                f"Put into the recipe {layout(table=printable(forms[0]))}, or another of them."
            )
        if left <= 0:
            break
    return None, reasons


def by_tables_of_splits(tree: Tree) -> Understood | None:
    """What the tables in the split folders tell, where all images of each lie in one folder there; None where not.

    Whatever lies beside the splits: a project's figures and programs.
    """
    told = list[Understood]()
    candidates = list(islice(tables_of_splits(tree.leaves), MAX_TABLES))
    images = Counter(name.rpartition("/")[0] for name in tree.leaves if candidates and not why_path_ignored(name))
    for tables in candidates:
        inside = [[above for above in images if f"{above}/".startswith(f"{folder}/")] for folder in tables]
        if any(len(folders) != 1 for folders in inside):
            continue
        try:
            found = {name: understand_table(_read(tree, name), tree.leaves) for name in tables.values()}
        except SourceError:
            for name in tables.values():
                _forget(tree, name)
            continue
        whole = together(found, tree.leaves)
        if whole and whole.tells_classes and len(whole.places) >= LEAST * sum(images[above] for (above,) in inside):
            told.append(whole)
    return told[0] if len(told) == 1 else None


def _stem(name: str) -> str:
    """What a file is called as, of which boxes are where an image is called so."""
    return name.rpartition("/")[2].rpartition(".")[0]


def pixel_table(tree: Tree) -> tuple[str, str] | None:
    """The importer for a table whose rows are pictures themselves, and that table; by its first line."""
    for name in [name for level in levels(tree.leaves) for name in level if not is_maybe(name)][:MAX_TABLES]:
        line = _first_line(tree, name)
        try:
            if pixel_columns(name, line.split(separator_of(line))):
                return "pixels", name
        except SourceError:  # which has pixels, and more that is to be cleared up there
            return "pixels", name
    return None


def _first_line(tree: Tree, name: str) -> str:
    """Of a table that may be too large to be read; nothing where it is not here."""
    if text := tree.texts.get(name):
        return text.partition("\n")[0].strip()
    path = tree.leaves[name].path
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            return file.read(LINE_BYTES).partition(b"\n")[0].decode("utf-8-sig", "replace").strip()
    except OSError:
        return ""


def complete(found: Understood, tree: Tree) -> None:
    """Classes for the images of split folders that have no class folders: val/ with its val_annotations.txt."""
    known = {label for _, _, label in found.places.values()}
    silent = set[str]()
    """Tables that tell nothing of a folder yet: the next one may be theirs."""
    for folder, (_, images) in list(found.unlabelled.items()):
        for name in _beside(folder, tree.leaves):
            try:
                one = understand_table(_read(tree, name), images, known=known)
            except SourceError:
                silent.add(name)
                continue
            if one.tells_classes and len(one.places) >= LEAST * len(images):
                found.label(folder, one)
                break
    for name in silent:
        if printable(name) not in found.tables:
            _forget(tree, name)


def heed(source: str, found: Understood, tree: Tree) -> None:
    """What tables say of images whose folders tell their classes: their splits, where no folder does.

    SourceError where one tells other classes of nearly all than the folders do: these are of patients.
    """
    for name in [name for level in levels(tree.leaves)[:1] for name in level if not is_maybe(name)][:MAX_TABLES]:
        try:
            one = understand_table(_read(tree, name), list(found.places))
        except SourceError:
            continue
        if one.called_so and one.tells_classes and _contradicts(one, found):
            splits = {split: folder for folder, split in found.splits.items()}
            around = {above for _, above, _ in found.places.values()}
            folders = layout(**splits) if splits else layout(classes=min(around) or ".")
            raise SourceError(
                f"{source}: {printable(name)} tells other classes than the folders do. Put into the recipe "
                f"{layout(table=printable(name))} if it is right, or {folders} if the folders are."
            )
        if one.called_so and not found.splits and len(one.places) >= MOST * len(found.places):
            found.divide(name, one)


def divide_by_lists(found: Understood, tree: Tree) -> None:
    """Splits by lists of names, such as Food-101's meta/train.txt and meta/test.txt, where nothing else tells them."""
    if found.splits:
        return
    for lists in islice(lists_of_splits(tree.leaves), MOST_LISTS):
        try:
            named = {name: _listed(tree, name, found) for name in lists}
        except SourceError:
            for name in lists:
                _forget(tree, name)
            continue
        if len(set().union(*named.values())) >= MOST * len(found.places):
            found.divide_by(lists, named)
            return


def _listed(tree: Tree, name: str, found: Understood) -> set[str]:
    lines = _text(tree, name).splitlines()
    try:  # names may have spaces and commas
        return listed(Table(name=name, columns=["line"], rows=[[line.strip()] for line in lines if line]), found.places)
    except SourceError:
        return listed(_read(tree, name), found.places)


def _contradicts(table: Understood, folders: Understood) -> bool:
    """Whether images of one folder are of several classes by the table; finer and coarser classes agree."""
    told: dict[str, Counter[str]] = {}
    for image, (_, _, label) in table.places.items():
        told.setdefault(folders.places[image][-1], Counter())[label] += 1
    agree = sum(max(labels.values()) for labels in told.values())
    return len(table.places) >= MOST * len(folders.places) and agree < AGREE * len(table.places)


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
        if tree.leaves[name].path == NOT_HERE:
            raise Forgotten(f"{printable(name)} was not read at the last sync")
        tree.texts[name] = ""  # where it cannot be read, that is remembered
        tree.texts[name] = _fetched(tree, name)
    return tree.texts[name]


def _fetched(tree: Tree, name: str) -> str:
    leaf = tree.leaves[name]
    if leaf.rejected:
        raise SourceError(f"{printable(name)} is not read as a table: {leaf.rejected.detail}.")
    tree.bring([name])
    try:
        status = leaf.path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise SourceError(
                f"{printable(name)} is not read as a table: that is a plain file of at most {MAX_BYTES} bytes."
            )
        body = leaf.path.read_bytes()
    except OSError as error:
        raise SourceError(f"{printable(name)} cannot be read ({error.strerror}); allow the worker to.") from None
    if body.startswith(GIT_LFS):
        raise SourceError(f"{printable(name)}: Git LFS keeps the table elsewhere; fetch it: git lfs pull.")
    encoding = encoding_of(name, body)
    if encoding in WINDOWS:
        log.warning(
            "%s is no UTF-8 and is read as %s. Where its classes are misspelt, save it as CSV UTF-8.",
            printable(name),
            encoding,
        )
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        raise SourceError(f"{printable(name)} ends, or is broken, at byte {error.start}; save it again.") from None
