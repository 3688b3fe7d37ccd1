"""What the folders of a source mean: which are splits, which are classes, and what is neither. Pure.

Names that people use for splits are recognised in any case; what looks like splits without being called so is refused,
with the line for the recipe; and all that is left out is counted, to be said before anything is paid.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, cast

from retraining.dataset.ignored import why_path_ignored
from retraining.dataset.names import printable
from retraining.dataset.source_error import SourceError, WithoutClassesError
from retraining.dataset.split import SplitName
from retraining.recipe.layout import Layout

SPLIT_WORDS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval", "evaluation", "validate"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}  # fmt: skip
# What people put before and after them: seg_train, train_set, testData, images-val, train2017.
FILLERS = {
    "set", "data", "dataset", "image", "images", "imgs", "img", "photos", "pictures", "split", "seg", "folder", "dir",
    "samples", "labelled", "labeled", "class", "classes", "cls", "the",
}  # fmt: skip
WRAPPERS = FILLERS | {"jpegimages", "all", "jpg", "png"}
# What is drawn over images for other tasks than this one, often as images too: images/, masks/.
MARKS = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "segmentations", "trimap",
    "trimaps", "groundtruth", "gt",
}  # fmt: skip
BESIDE_IMAGES = "masks or labels beside their images"
EXAMPLES = 3
REASONS = 12  # of a summary

Path = tuple[str, ...]


@dataclass
class _Folder:
    """What lies in a folder of the source, without what is ignored."""

    folders: dict[str, _Folder] = field(default_factory=dict)
    files: int = 0
    """Directly in it."""
    total: int = 0
    """In it and below it."""

    @property
    def full(self) -> dict[str, _Folder]:
        """Its folders that hold anything at all."""
        return {name: folder for name, folder in self.folders.items() if folder.total}

    def at(self, path: Iterable[str]) -> _Folder | None:
        folder: _Folder | None = self
        for name in path:
            folder = folder.folders.get(name) if folder else None
        return folder


@dataclass(kw_only=True)
class LeftOut:
    """Files of which a source is read without."""

    files: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.files += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(printable(name))


@dataclass(kw_only=True)
class Understood:
    """How a source was read."""

    places: dict[str, tuple[SplitName | None, str, str]]
    """File → its split, the folder above its class folder, and that folder's own name."""
    splits: dict[str, SplitName] = field(default_factory=dict)
    """Folder → split; empty when all images are divided here."""
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    """Why → which files."""
    followed: int = 0
    """Links to files and folders elsewhere."""
    tables: dict[str, dict[str, str]] = field(default_factory=dict)
    """Table that told the classes → what its columns were taken for: image, class and split → column."""
    pattern: str = ""
    """By which the classes were found in the files' names."""
    refused: list[str] = field(default_factory=list)
    """Why tables beside the images do not tell classes."""

    def leave_out(self, why: str, name: str) -> None:
        self.left_out.setdefault(why, LeftOut()).add(name)

    def split_by_folders(self) -> None:
        """Keeps train/ and test/, below whatever folder is around all images, where both have images with a class."""
        around = os.path.commonpath([name.rpartition("/")[0] for name in self.places]) if self.places else ""
        below = len(around) + 1 if around else 0
        tops = {name: name[below:].partition("/")[0] for name in self.places if "/" in name[below:]}
        words = split_words(set(tops.values()))
        if len(tops) < len(self.places) or "train" not in words.values() or len(set(words.values())) < 2:
            return
        if words.keys() != set(tops.values()):
            return
        self.splits = {name: word for name, word in words.items()}
        for name, (_, above, label) in self.places.items():
            self.places[name] = (words[tops[name]], above, label)

    def as_dict(self) -> dict[str, Any]:
        """Without the files themselves, and small however odd the source is."""
        by_size = sorted(self.left_out.items(), key=lambda item: -item[1].files)
        ignored = {why: {"files": some.files, "examples": some.examples} for why, some in by_size[:REASONS]}
        if rest := by_size[REASONS:]:
            examples = [name for _, some in rest for name in some.examples][:EXAMPLES]
            ignored["in other folders"] = {"files": sum(some.files for _, some in rest), "examples": examples}
        splits = {printable(folder): split for folder, split in self.splits.items()}
        understood = {"splits": splits, "ignored": ignored, "links_followed": self.followed}
        understood |= {"tables": self.tables} if self.tables else {}
        return understood | ({"pattern": self.pattern} if self.pattern else {})


def understand(source: str, names: Iterable[str], empty: Iterable[str] = (), said: Layout | None = None) -> Understood:
    """Read the names of a source's files (and its empty folders), `/` between their parts. Raises SourceError."""
    found, kept, root = Understood(places={}), dict[str, Path](), _Folder()
    for name in names:
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if why := why_path_ignored(name):
            found.leave_out(why, name)
        elif parts:
            kept[name] = parts
            _grow(root, parts[:-1], files=1)
    for name in empty:
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if not why_path_ignored(name):
            _grow(root, parts, files=0)
    parents = _said(source, root, said) if said and (said.classes or said.splits) else _guessed(source, root)
    found.splits = {
        "/".join(path if label is None else (*path[:-2], "*", path[-1])): split
        for path, (split, label) in parents.items()
        if split is not None
    }
    lengths = sorted({len(path) for path in parents}, reverse=True)
    for name, parts in kept.items():
        parent = next((parts[:n] for n in lengths if len(parts) > n and parts[:n] in parents), None)
        split, label = parents[parent] if parent is not None else (None, None)
        if parent is not None and _are_marks(root, parts, len(parent) + (label is None)):
            found.leave_out(BESIDE_IMAGES, name)
        elif parent is not None and label is not None:
            found.places[name] = (split, "", label)
        elif parent is not None and len(parts) > len(parent) + 1:
            found.places[name] = (split, "/".join(parent), parts[len(parent)])
        else:
            found.leave_out(_why_outside(parts, parent, parents), name)
    _require_full(source, root, parents)
    if not said or not said.classes:
        _refuse_marks(source, {label for _, _, label in found.places.values()})
    return found


def split_words(folders: Iterable[str]) -> dict[str, SplitName]:
    """Folder → the split that its name says it is, for those that do: seg_train, Testing, valid-set, val2017.

    What else a name says must be the same of all: asl_alphabet_train and asl_alphabet_test are splits.
    """
    by_rest: dict[Path, dict[str, SplitName]] = {}
    for folder in folders:
        words = _words(folder)
        said = [word for word in words if word in SPLIT_WORDS]
        if len(said) == 1 or [SPLIT_WORDS[word] for word in said] == ["train", "validation"]:  # of which we divide
            rest = tuple(word for word in words if word not in said)
            by_rest.setdefault(rest, {})[folder] = SPLIT_WORDS[said[0]]
    named = [found for rest, found in by_rest.items() if rest and {"train"} < set(found.values())]
    return by_rest.get((), {}) or (named[0] if len(named) == 1 else {})


def _words(folder: str) -> list[str]:
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", folder)
    words = (
        re.sub(r"(?<=[a-z]{3})(sets?|data|images|imgs|dataset|split|folder)$", "", word)
        for word in re.split(r"[\W_\d]+", spaced.lower())
    )
    return [word for word in words if word and word not in FILLERS]


# --- parts ----------------------------------------------------------------------------------------------------------


def _grow(root: _Folder, path: Path, files: int) -> None:
    folder = root
    folder.total += files
    for name in path:
        folder = folder.folders.setdefault(name, _Folder())
        folder.total += files
    folder.files += files


def _guessed(source: str, root: _Folder) -> dict[Path, tuple[SplitName | None, str | None]]:
    """The folders that hold class folders, each with its split; or class folders' own splits, with their class."""
    at: Path = ()
    folder = root
    while True:
        if splits := _splits(source, at, folder):
            return {path: (split, None) for path, split in splits.items()}
        inner = folder.full
        if len(inner) != 1:
            break
        (name, only), *_ = inner.items()
        # Archives wrap everything in a folder of their name. One class alone is no reason to look for others in it.
        if not only.full or (only.files and len(only.full) < 2):
            break
        at, folder = (*at, name), only
    if own := _splits_of_classes(folder):
        return {(*at, label, name): (split, label) for label, name, split in own}
    _refuse_alike(source, at, folder)
    return {at: (None, None)}


def _splits(source: str, at: Path, folder: _Folder) -> dict[Path, SplitName]:
    """The split folders in a folder, if it has any: their names say so, and class folders are in them."""
    full = folder.full
    words = split_words(full)
    labelled = {path: word for name, word in words.items() if (path := _class_folders(name, full[name]))}
    if len(words) == len(full) > 1 and not labelled:
        raise WithoutClassesError(
            f"{source}: {_names(full)} hold images themselves, without class folders; expected "
            f"{printable(min(full))}/<class>/<image>."
        )
    if not labelled or len(full) == 1:  # classes, or one folder around all
        return {}
    if len(words) == 1:
        (name,) = words
        if full[name].files:
            return {}
        raise SourceError(
            f"{source}: {printable(name)} may be a split, or a class beside {_names(full.keys() - words)}. "
            f"{_as_split(at, name, words[name], full)}, or {_layout(classes='/'.join(at) or '.')} if not."
        )
    if "train" not in labelled.values() and len(words) < len(full):
        return {}
    return {(*at, *path): word for path, word in labelled.items()}


def _as_split(at: Path, name: str, split: SplitName, full: Mapping[str, _Folder]) -> str:
    """The line for a folder called as one split is, with the other folder of its classes; nothing trains on a test."""
    alike = sorted(other for other in full if other != name and full[name].full.keys() & full[other].full.keys())
    if split == "train":
        others: dict[str, str] = {"test": "/".join((*at, alike[0]))} if len(alike) == 1 else {}
        return f"{_line(train='/'.join((*at, name)), **others)} if it is the split"
    train = "/".join((*at, alike[0])) if len(alike) == 1 else "<the folder to train on>"
    return f"{_line(train=train, **{split: '/'.join((*at, name))})} if it is the split"


def _class_folders(name: str, folder: _Folder) -> Path:
    """The path to the class folders of a split, such as seg_train/seg_train or train/images; empty without any."""
    path: Path = (name,)
    while len(folder.full) == 1:
        ((inner_name, inner),) = folder.full.items()
        same = inner_name.lower() == name.lower() or bool(
            set(_words(inner_name)) & set(_words(name)) & set(SPLIT_WORDS)
        )
        if not (same or inner_name.lower() in WRAPPERS):
            break
        path, folder = (*path, inner_name), inner
    return path if folder.full else ()


def _splits_of_classes(folder: _Folder) -> list[tuple[str, str, SplitName]]:
    """<class>/<split>/<image>: (class, split folder, split) of each, if every class is laid out so."""
    found = []
    for label, inner in folder.full.items():
        words = split_words(inner.full)
        if inner.files or not words or len(words) < len(inner.full):
            return []
        found += [(label, name, word) for name, word in words.items()]
    splits = {split for _, _, split in found}
    return found if "train" in splits and len(splits) > 1 else []


def _refuse_alike(source: str, at: Path, folder: _Folder) -> None:
    """Folders that hold the same folders look like splits, not like classes."""
    inner = {name: set(f.full) for name, f in folder.full.items() if not f.files and len(f.full) > 1}
    for one, other in combinations(sorted(inner, key=lambda name: -folder.folders[name].total)[:40], 2):
        common = inner[one] & inner[other]
        if len(common) > 1 and 2 * len(common) >= len(inner[one] | inner[other]):
            both = "/".join((*at, one)), "/".join((*at, other))
            raise SourceError(
                f"{source}: {printable(one)} and {printable(other)} both hold {_names(common)}: they look like splits, "
                f"not like classes. {_line(train=both[0], test=both[1])} if they are, or "
                f"{_layout(classes='/'.join(at) or '.')} if they are classes all the same."
            )


def _are_marks(root: _Folder, parts: Path, depth: int) -> bool:
    """Whether a file lies, `depth` folders deep or deeper, in one of masks that has their images beside it."""
    for n in range(depth, len(parts) - 1):
        around = root.at(parts[:n])
        if around and says(parts[n], MARKS):
            others = [name for name in around.full if name.lower() in WRAPPERS]
            if around.files or others:
                return True
    return False


def _refuse_marks(source: str, labels: set[str]) -> None:
    """Masks and their images are no two classes."""
    marks = {label for label in labels if says(label, MARKS)}
    if marks and all(label.lower() in WRAPPERS for label in labels - marks):
        raise WithoutClassesError(
            f"{source}: {_names(labels)} look like images and what is drawn over them, not like classes; expected "
            f"<class>/<image>. {_line(classes='<the folder that holds them>')} if they are classes."
        )


def says(folder: str, what: set[str]) -> bool:
    """Whether a folder's name is nothing but such words."""
    words = _words(folder)
    return bool(words) and set(words) <= what


def _said(source: str, root: _Folder, said: Layout) -> dict[Path, tuple[SplitName | None, str | None]]:
    """What the recipe's layout names; below the one folder that wraps everything, too."""
    wanted: Mapping[str, str] = {"classes": said.classes} if said.classes else said.splits
    found: dict[Path, tuple[SplitName | None, str | None]] = {}
    for key, value in wanted.items():
        path = tuple(part for part in value.split("/") if part not in ("", "."))
        at: Path = ()
        folder = root
        while folder.at(path) is None and len(folder.full) == 1:
            (name, folder), *_ = folder.full.items()
            at = (*at, name)
        if (there := folder.at(path)) is None or not there.total:
            raise SourceError(
                f"{source}: layout.{key} of the recipe is {value!r}, but no such folder with files is there; "
                f"it has {_names(root.full) or 'no folders'}."
            )
        found[(*at, *path)] = (None if key == "classes" else cast(SplitName, key), None)
    return found


def _why_outside(parts: Path, parent: Path | None, parents: Mapping[Path, object]) -> str:
    if parent is not None or len(parts) == 1:
        return "beside the class folders"
    depth = next((n for n in range(len(parts)) if not any(path[: n + 1] == parts[: n + 1] for path in parents)), 0)
    if depth == len(parts) - 1:
        return "beside the class folders"
    top = printable("/".join(parts[: depth + 1]))
    return f"in {top}: images without a class" if split_words([parts[depth]]) else f"in {top}: no split of this source"


def _require_full(source: str, root: _Folder, parents: Mapping[Path, tuple[SplitName | None, str | None]]) -> None:
    """No class folder is empty: whoever made it wanted that class."""
    for path, (_, label) in parents.items():
        inner = root.at(path)
        bare = sorted(name for name, folder in inner.folders.items() if not folder.total) if inner and not label else []
        if bare:
            where = "/".join(path)
            raise SourceError(
                f"{source}: there is no image in class folder {printable('/'.join((where, bare[0])).lstrip('/'))!r}"
                f"{f' and {len(bare) - 1} others' if bare[1:] else ''}. Add images or remove the folder."
            )


def _line(**layout: str) -> str:
    """The line for the recipe."""
    return f"Put into the recipe {_layout(**layout)}"


def _layout(**layout: str) -> str:
    return "`layout: {" + ", ".join(f"{key}: {value}" for key, value in layout.items()) + "}`"


def _names(names: Iterable[str]) -> str:
    shown = sorted(map(printable, names))
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")
