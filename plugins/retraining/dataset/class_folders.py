"""Which folders of a source hold its class folders, as their names and what is in them say, or the recipe. Pure.

What may be meant otherwise is refused with the line for the recipe: nobody is to pay for classes that are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import cast

from retraining.dataset.folder_names import MARKS, SPLIT_WORDS, WRAPPERS, are_parts, says, split_words, words_of
from retraining.dataset.names import printable
from retraining.dataset.source_error import SourceError, WithoutClassesError
from retraining.dataset.split import SplitName
from retraining.recipe.layout import Layout

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".mpo")
"""Of images, in lower case. Others are looked into as well, and count for less where folders are told apart."""

Path = tuple[str, ...]
Parents = dict[Path, tuple[SplitName | None, str | None]]
"""A folder that holds class folders → its split, or None; or a class folder's own split → also its class."""


@dataclass
class Folder:
    """What lies in a folder of the source, without what is ignored."""

    folders: dict[str, Folder] = field(default_factory=dict)
    files: int = 0
    """Directly in it, and looking like images."""
    total: int = 0
    """In it and below it, whatever they look like."""
    pictures: int = 0
    """The same, and looking like images."""

    @property
    def full(self) -> dict[str, Folder]:
        """Its folders that hold anything at all."""
        return {name: folder for name, folder in self.folders.items() if folder.total}

    def at(self, path: Iterable[str]) -> Folder | None:
        folder: Folder | None = self
        for name in path:
            folder = folder.folders.get(name) if folder else None
        return folder

    def grow(self, path: Path, *, files: int, pictures: int) -> None:
        """Files in the folder at a path, which is made."""
        folder = self
        for name in (*path, None):
            folder.total += files
            folder.pictures += pictures
            if name is not None:
                folder = folder.folders.setdefault(name, Folder())
        folder.files += pictures

    def unwrapped(self) -> tuple[Path, Folder]:
        """The folder itself, or the first below it that holds more than one folder, and the path to it."""
        path: Path = ()
        folder = self
        while len(folder.full) == 1 and not folder.files:
            ((name, folder),) = folder.full.items()
            path = (*path, name)
        return path, folder

    @property
    def inner(self) -> dict[str, Folder]:
        """The folders that all its images lie in, if these are several: it may hold classes, or be one."""
        _, folder = self.unwrapped()
        return folder.full if not folder.files and len(folder.full) > 1 else {}


def folders_of(paths: Iterable[Path]) -> Folder:
    """The folders in which files lie; `paths` end in the files' names."""
    root, found = Folder(), list(paths)
    alike = [path[-1].lower().endswith(ENDINGS) for path in found]
    some = any(alike)  # names without endings are images where no name has one
    for path, is_alike in zip(found, alike, strict=True):
        root.grow(path[:-1], files=1, pictures=int(is_alike or not some))
    return root


def guessed(source: str, root: Folder) -> Parents:
    """The folders that hold class folders, each with its split; or class folders' own splits, with their class."""
    at: Path = ()
    folder = root
    while True:
        if splits := _splits(source, at, folder):
            return {path: (split, None) for path, split in splits.items()}
        inner = _without_marks(folder)
        if len(inner) != 1:
            break
        (name, only), *_ = inner.items()
        # Archives wrap everything in a folder of their name. One class alone is no reason to look for others in it.
        if not only.full or (only.files and len(only.full) < 2):
            break
        at, folder = (*at, name), only
    if own := _splits_of_classes(folder):
        return {(*at, label, name): (split, label) for label, name, split in own}
    _refuse_copy(source, at, folder)
    _refuse_alike(source, at, folder)
    _refuse_parts(source, at, folder)
    _refuse_unlike(source, at, folder)
    return {at: (None, None)}


def said_by(source: str, root: Folder, said: Layout) -> Parents:
    """What the recipe's layout names; below the one folder that wraps everything, too. `*` is each folder."""
    wanted: Mapping[str, str] = {"classes": said.classes} if said.classes else said.splits
    found: Parents = {}
    for key, value in wanted.items():
        path = tuple(part for part in value.split("/") if part not in ("", "."))
        at: Path = ()
        folder = root
        while len(folder.full) == 1 and (path[:1] == ("*",) or not any(_matching(folder, path))):
            (name, folder), *_ = folder.full.items()
            at = (*at, name)
        if not (matches := list(_matching(folder, path))):
            raise SourceError(
                f"{source}: layout.{key} of the recipe is {value!r}, but no such folder with files is there; "
                f"it has {names_of(root.full) or 'no folders'}."
            )
        for match in matches:
            found[(*at, *match)] = (None if key == "classes" else cast(SplitName, key), None)
    return found


def line(**layout: str) -> str:
    """The line for the recipe."""
    return f"Put into the recipe {_layout(**layout)}"


def names_of(names: Iterable[str]) -> str:
    """Some of these, for a sentence."""
    shown = sorted(map(printable, names))
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")


# --- splits -----------------------------------------------------------------------------------------------------------


def _splits(source: str, at: Path, folder: Folder) -> dict[Path, SplitName]:
    """The split folders in a folder, if it has any: their names say so, and class folders are in them."""
    full = folder.full
    words = split_words(full)
    labelled = {path: word for name, word in words.items() if (path := _class_folders(name, full[name]))}
    if len(words) == len(full) > 1 and not labelled:
        raise WithoutClassesError(
            f"{source}: {names_of(full)} hold images themselves, without class folders; expected "
            f"{printable(min(full))}/<class>/<image>."
        )
    if not labelled or len(full) == 1:  # classes, or one folder around all
        return {}
    if len(words) == 1:
        (name,) = words
        if full[name].files:
            return {}
        raise SourceError(
            f"{source}: {printable(name)} may be a split, or a class beside {names_of(full.keys() - words)}. "
            f"{_as_split(at, name, words[name], full)}, or {_layout(classes=_joined(at))} if not."
        )
    if "train" not in labelled.values() and len(words) < len(full):
        return {}
    return {(*at, *path): word for path, word in labelled.items()}


def _as_split(at: Path, name: str, split: SplitName, full: Mapping[str, Folder]) -> str:
    """The line for a folder called as one split is, with the other folder of its classes; nothing trains on a test."""
    alike = sorted(other for other in full if other != name and full[name].full.keys() & full[other].full.keys())
    if split == "train":
        others: dict[str, str] = {"test": _joined(at, alike[0])} if len(alike) == 1 else {}
        return f"{line(train=_joined(at, name), **others)} if it is the split"
    train = _joined(at, alike[0]) if len(alike) == 1 else "<the folder to train on>"
    return f"{line(train=train, **{split: _joined(at, name)})} if it is the split"


def _class_folders(name: str, folder: Folder) -> Path:
    """The path to the class folders of a split, such as seg_train/seg_train or train/images; empty without any."""
    path: Path = (name,)
    while len(folder.full) == 1:
        ((inner_name, inner),) = folder.full.items()
        same = inner_name.lower() == name.lower() or bool(
            set(words_of(inner_name)) & set(words_of(name)) & set(SPLIT_WORDS)
        )
        if not (same or inner_name.lower() in WRAPPERS):
            break
        path, folder = (*path, inner_name), inner
    return path if folder.full else ()


def _splits_of_classes(folder: Folder) -> list[tuple[str, str, SplitName]]:
    """<class>/<split>/<image>: (class, split folder, split) of each, if every class is laid out so."""
    found = []
    for label, inner in folder.full.items():
        words = split_words(inner.full)
        if inner.files or not words or len(words) < len(inner.full):
            return []
        found += [(label, name, word) for name, word in words.items()]
    splits = {split for _, _, split in found}
    return found if "train" in splits and len(splits) > 1 else []


# --- what is no class -------------------------------------------------------------------------------------------------


def _without_marks(folder: Folder) -> dict[str, Folder]:
    """The folders in a folder, without what is drawn over the images of the only other one, or written about them."""
    full = folder.full
    others = {name: inner for name, inner in full.items() if not says(name, MARKS)}
    if len(others) != 1 or len(full) == 1:
        return full
    ((_, other),) = others.items()
    return others if other.inner or not sum(full[name].pictures for name in full.keys() - others) else full


def _copy_in(folder: Folder) -> Path:
    """The path to a folder that holds what lies beside it once more, as where an archive was unpacked in itself."""
    for name, inner in folder.full.items():
        common = inner.inner.keys() & folder.full.keys()
        if len(common) > 1 and 2 * len(common) >= len(inner.inner):
            return (name, *inner.unwrapped()[0])
    return ()


def _refuse_copy(source: str, at: Path, folder: Folder) -> None:
    if copy := _copy_in(folder):
        raise SourceError(
            f"{source}: {printable(_joined(at, *copy))} holds folders that lie beside it, too "
            f"({names_of(folder.full[copy[0]].inner)}): it is a copy of them, or a split, and no class. "
            f"{line(classes=_joined(at, *copy))} to take it alone, or remove it."
        )


def _refuse_alike(source: str, at: Path, folder: Folder) -> None:
    """Folders that hold the same folders look like splits, or like parts of one set, not like classes."""
    deep = [name for name, inner in folder.full.items() if inner.inner]
    for one, other in combinations(sorted(deep, key=lambda name: -folder.folders[name].total)[:40], 2):
        first, second = folder.folders[one], folder.folders[other]
        common = first.inner.keys() & second.inner.keys()
        if len(common) > 1 and 2 * len(common) >= len(first.inner.keys() | second.inner.keys()):
            below, besides = first.unwrapped()[0], second.unwrapped()[0]
            train, test = _joined(at, one, *below), _joined(at, other, *besides)
            parts = f"{_layout(classes=_joined(at, '*', *below))} if they are parts of one set, "
            raise SourceError(
                f"{source}: {printable(one)} and {printable(other)} both hold {names_of(common)}: they look like "
                f"splits, not like classes. {line(train=train, test=test)} if they are, or "
                f"{parts if below == besides else ''}{_layout(classes=train)} to take one alone, "
                f"{_layout(classes=_joined(at))} if they are classes all the same."
            )


def _refuse_parts(source: str, at: Path, folder: Folder) -> None:
    """images_001 and images_002 are one set that was too large for one folder."""
    full = folder.full
    if len(full) > 1 and are_parts(full):
        merged = any(inner.inner for inner in full.values())
        each = f"{_layout(classes=_joined(at, '*'))} if each holds class folders, or " if merged else ""
        raise WithoutClassesError(
            f"{source}: {names_of(full)} look like parts of one set, not like classes; expected <class>/<image>. "
            f"Put into the recipe {each}{_layout(classes=_joined(at))} if they are classes all the same."
        )


def _refuse_unlike(source: str, at: Path, folder: Folder) -> None:
    """A folder of class folders is no class beside another folder: dataset/cat, dataset/dog and testset."""
    full = folder.full
    deep = [name for name, inner in full.items() if inner.inner]
    flat = [name for name in full if name not in deep]
    if len(deep) != 1 or not flat:
        return
    (name,) = deep
    below, inner = full[name].unwrapped()
    wraps = not words_of(name) and any(letter.isalpha() for letter in name)
    if wraps or all(set(words_of(other)) & set(SPLIT_WORDS) for other in flat):
        raise SourceError(
            f"{source}: {printable(name)} holds folders of its own ({names_of(full[name].inner)}), "
            f"{names_of(flat)} not: one of them may be no class. "
            f"{line(classes=_joined(at, name, *below, *_copy_in(inner)))} if all classes are in there, or "
            f"{_layout(classes=_joined(at))} if not."
        )


# --- parts ------------------------------------------------------------------------------------------------------------


def _matching(folder: Folder, path: Path) -> Iterator[Path]:
    """The paths below a folder, of folders that hold anything, that a path with * for any name stands for."""
    if not path:
        if folder.total:
            yield ()
        return
    for name in sorted(folder.full) if path[0] == "*" and "*" not in folder.full else path[:1]:
        if inner := folder.full.get(name):
            yield from ((name, *rest) for rest in _matching(inner, path[1:]))


def _joined(at: Path, *name: str) -> str:
    return "/".join((*at, *name)) or "."


def _layout(**layout: str) -> str:
    return "`layout: {" + ", ".join(f"{key}: {_scalar(value)}" for key, value in layout.items()) + "}`"


def _scalar(value: str) -> str:
    """* alone would be an alias in YAML."""
    return f"'{value}'" if value.startswith("*") else value
