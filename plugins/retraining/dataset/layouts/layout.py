"""What the folders of a source mean: which are splits, which are classes, and what is neither. Pure.

Names that people use for splits are recognised in any case; what looks like splits without being called so is refused,
with the line for the recipe; and all that is left out is counted, to be said before anything is paid.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from retraining.dataset.layouts.class_folders import guessed, said_by
from retraining.dataset.layouts.folder_names import PROJECT, WRAPPERS, are_marks, is_whole, says, split_words
from retraining.dataset.layouts.folders import Folder, Path, folders_of
from retraining.dataset.layouts.ignored import is_program, why_path_ignored
from retraining.dataset.layouts.proposed import layout, line
from retraining.dataset.layouts.twins import twins
from retraining.dataset.source_error import SourceError, WithoutClassesError
from retraining.dataset.split import SplitName
from retraining.printable import printable, some_of
from retraining.recipe.layout import Layout

BESIDE_IMAGES = "masks or labels beside their images"
AS_IMAGES = "called as a JPEG beside it is, as masks are; give them other names if they are pictures"
DRAWN = re.compile(r"(.+?)[ _-]*(?:mask|masks|seg|segmentation|gt|groundtruth|label)(?:[ _-]?\d+)?\.[a-z]{3,4}", re.I)
"""An image's name without its ending, and what is drawn over it."""
README = re.compile(r"readme(?![^\W_])", re.IGNORECASE)
EXAMPLES = 3
REASONS = 12  # of a summary


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
    """Folder, table or list → split; empty when all images are divided here."""
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    """Why → which files."""
    followed: int = 0
    """Links to files and folders elsewhere."""
    called_so: bool = False
    """Whether the table's column of classes is called as one."""
    tables: dict[str, dict[str, str]] = field(default_factory=dict)
    """Table that told the classes → what its columns were taken for: image, class and split → column."""
    undivided: dict[str, str] = field(default_factory=dict)
    """Table that told the classes → its column of splits or folds, by which nothing is divided."""
    pattern: str = ""
    """By which the classes were found in the files' names."""
    unlabelled: dict[str, tuple[SplitName, list[str]]] = field(default_factory=dict)
    """Split folder without class folders → its split and images, of which something else may tell the classes."""
    within: list[str] = field(default_factory=list)
    """Folders within class folders that hold all images of their class: somebody may have meant these."""
    refused: list[str] = field(default_factory=list)
    """Why tables beside the images do not tell classes."""

    def leave_out(self, why: str, name: str) -> None:
        self.left_out.setdefault(why, LeftOut()).add(name)

    @property
    def tells_classes(self) -> bool:
        """Whether there are two at least."""
        return len({label for _, _, label in self.places.values()}) > 1

    def label(self, folder: str, told: Understood) -> None:
        """The images of an unlabelled split folder, by a table that tells the classes of most of them."""
        split, images = self.unlabelled.pop(folder)
        del self.left_out[_unlabelled(folder)]
        self.splits[folder] = split
        self.tables |= told.tables
        for name in images:
            if place := told.places.get(name):
                self.places[name] = (split, folder, place[-1])
            else:
                self.leave_out(_unlabelled(folder), name)

    def divide(self, table: str, told: Understood) -> None:
        """By the column of splits of a table that names nearly all images; the others are left out."""
        if not any("split" in columns for columns in told.tables.values()):
            return
        self.tables |= told.tables
        for name, (_, above, label) in list(self.places.items()):
            if place := told.places.get(name):
                self.places[name] = (place[0], above, label)
            else:
                del self.places[name]
                self.leave_out(f"of no split in {printable(table)}", name)

    def divide_by(self, lists: Mapping[str, SplitName], named: Mapping[str, Set[str]]) -> None:
        """By lists, each of the names of one split's images; what is in none, or in several, is left out."""
        self.splits |= {printable(name): split for name, split in lists.items()}
        for image, (_, above, label) in list(self.places.items()):
            told = [lists[name] for name, images in named.items() if image in images]
            if len(told) == 1:
                self.places[image] = (told[0], above, label)
            else:
                del self.places[image]
                self.leave_out(f"in {'several' if told else 'none'} of {', '.join(map(printable, lists))}", image)

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
        understood |= {"undivided": self.undivided} if self.undivided else {}
        if self.within:
            examples = [printable(name) for name in self.within[:EXAMPLES]]
            understood["within"] = {"folders": len(self.within), "examples": examples}
        return understood | ({"pattern": self.pattern} if self.pattern else {})


def understand(source: str, names: Iterable[str], empty: Iterable[str] = (), said: Layout | None = None) -> Understood:
    """Read the names of a source's files (and its empty folders), `/` between their parts. Raises SourceError."""
    found, kept, notes = Understood(places={}), dict[str, Path](), list[Path]()
    for name in names:
        parts = _parts(name)
        if why := why_path_ignored(name):
            found.leave_out(why, name)
            notes += [parts] if why == "notes" else []
        elif parts:
            kept[name] = parts
    by_recipe = bool(said and said.names_folders)
    bare = [_parts(name) for name in empty if not why_path_ignored(f"{name}/")]
    bare += [] if by_recipe else _readme_alone(kept.values(), notes)
    root = folders_of(kept.values(), bare, [path for path in notes if is_program(path[-1])])
    parents = said_by(source, root, said) if said and by_recipe else guessed(source, root)
    found.splits = {
        "/".join("*" if part == label else part for part in path): split
        for path, (split, label) in parents.items()
        if split is not None
    }
    if not by_recipe:
        found.within = _within(root, parents)
    lengths = sorted({len(path) for path in parents}, reverse=True)
    around = {path[:n] for path in parents for n in range(len(path) + 1)}
    masks, alike, divided = _masks(kept), twins(kept.values()), {"train", "validation"} <= set(found.splits.values())
    for name, parts in kept.items():
        parent = next((parts[:n] for n in lengths if len(parts) > n and parts[:n] in parents), None)
        split, label = parents[parent] if parent is not None else (None, None)
        if parent is not None and (parts in masks or _are_marks(root, parts, len(parent) + (label is None))):
            found.leave_out(BESIDE_IMAGES, name)
        elif parent is not None and parts in alike:
            found.leave_out(AS_IMAGES, name)
        elif parent is not None and label is not None:
            found.places[name] = (split, "", label)
        elif parent is not None and len(parts) > len(parent) + 1:
            found.places[name] = (split, "/".join(parent), parts[len(parent)])
        elif parent is None and (top := _split_outside(parts, around)) and not (divided and is_whole(top[-1])):
            (word,) = split_words(top[-1:]).values()
            found.leave_out(_unlabelled("/".join(top)), name)
            if not by_recipe:
                found.unlabelled.setdefault("/".join(top), (word, []))[1].append(name)
        else:
            found.leave_out(_why_outside(parts, parent, around, len(parents)), name)
    _require_full(source, root, parents)
    _require_known(source, found)
    if not said or not said.classes:
        _refuse_marks(source, {label for _, _, label in found.places.values()})
    return found


def without_marks(names: Iterable[str], found: Understood, table: str = "") -> list[str]:
    """What may be images, whatever folders they lie in; the rest, but for the table, is left out of what is found."""
    images, marks = list[str](), list[str]()
    for name in names:
        if why := why_path_ignored(name):
            if name != table:
                found.leave_out(why, name)
        else:
            (marks if any(are_marks(folder) for folder in name.split("/")[:-1]) else images).append(name)
    if not images:
        return marks  # somebody calls images so
    for name in marks:
        found.leave_out(BESIDE_IMAGES, name)
    return images


# --- parts ----------------------------------------------------------------------------------------------------------


def _parts(name: str) -> Path:
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _readme_alone(kept: Iterable[Path], notes: Iterable[Path]) -> list[Path]:
    """Folders of nothing but a README, of which several lie beside each other: their images are still to be put there.

    One alone is as often of a project, as are those that are called so.
    """
    alone = {path[:-1] for path in notes if README.match(path[-1]) and path[1:] and not says(path[-2], PROJECT)}
    if alone:
        others = (path for paths in (kept, notes) for path in paths if not README.match(path[-1]))
        alone -= {path[:n] for path in others for n in range(1, len(path))}
    beside = Counter(path[:-1] for path in alone)
    return sorted(path for path in alone if beside[path[:-1]] > 1)


def _are_marks(root: Folder, parts: Path, depth: int) -> bool:
    """Whether a file lies, `depth` folders deep or deeper, in one of masks that has their images beside it."""
    for n in range(depth, len(parts) - 1):
        around = root.at(parts[:n])
        if around and are_marks(parts[n]):
            others = [name for name in around.full if name.lower() in WRAPPERS and not are_marks(name)]
            if around.files or others:
                return True
    return False


def _masks(kept: Mapping[str, Path]) -> set[Path]:
    """Files called as an image beside them is, and what is drawn over it: `a (1).png` and `a (1)_mask.png`."""
    drawn = {parts: (*parts[:-1], match[1]) for parts in kept.values() if (match := DRAWN.fullmatch(parts[-1]))}
    stems = {(*parts[:-1], parts[-1].rpartition(".")[0]) for parts in kept.values()} if drawn else set()
    return {parts for parts, image in drawn.items() if image in stems}


def _refuse_marks(source: str, labels: set[str]) -> None:
    """Masks and their images are no two classes."""
    marks = {label for label in labels if are_marks(label)}
    images = {label for label in labels - marks if label.lower() in WRAPPERS}
    if marks and (images or marks == labels):
        raise WithoutClassesError(
            f"{source}: {some_of(marks | images)} look like images and what is drawn over them, not like classes; "
            f"expected <class>/<image>. {line(classes='<the folder that holds them>')} if they are classes."
        )


def _within(root: Folder, parents: Iterable[Path]) -> list[str]:
    around = [(path, folder) for path in parents if (folder := root.at(path))]
    return [
        "/".join((*path, label, *inner.unwrapped()[0], name))
        for path, folder in around
        for label, inner in folder.full.items()
        for name in inner.inner
    ]


def _unlabelled(folder: str) -> str:
    """Why its images are left out."""
    return f"in {printable(folder)}: images without a class"


def _split_outside(parts: Path, around: Set[Path]) -> Path:
    """The folder of a file, called as a split is, that is none of the parents nor around one; empty for none."""
    depth = _apart(parts, around)
    return parts[: depth + 1] if depth < len(parts) - 1 and split_words([parts[depth]]) else ()


def _apart(parts: Path, around: Set[Path]) -> int:
    """How deep a file lies in folders that are parents or hold some."""
    return next((n for n in range(len(parts)) if parts[: n + 1] not in around), 0)


def _why_outside(parts: Path, parent: Path | None, around: Set[Path], parents: int) -> str:
    depth = _apart(parts, around)
    if parent is not None or depth == len(parts) - 1:
        return "beside the class folders"
    if are_marks(parts[depth]):
        return BESIDE_IMAGES
    top = printable("/".join(parts[: depth + 1]))
    return f"in {top}: no split of this source" if parents > 1 else f"in {top}: outside the class folders"


def _require_known(source: str, found: Understood) -> None:
    """Splits of one source have classes in common."""
    classes: dict[SplitName | None, set[str]] = {}
    for split, _, label in found.places.values():
        classes.setdefault(split, set()).add(label)
    trained = classes.get("train", set())
    for split, labels in classes.items():
        if trained and not trained & labels:
            raise SourceError(
                f"{source}: what is to be trained on has the classes {some_of(trained)}, and none of those of "
                f"{split} ({some_of(labels)}): their folders do not hold the same. Name those that do: "
                f"{layout(train='<folder to train on>', test='<folder to test with>')}."
            )


def _require_full(source: str, root: Folder, parents: Mapping[Path, tuple[SplitName | None, str | None]]) -> None:
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
