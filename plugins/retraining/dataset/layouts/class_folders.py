"""Which folders of a source hold its class folders, as their names and what is in them say, or the recipe. Pure.

What may be meant otherwise is refused with the line for the recipe: nobody is to pay for classes that are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import cast

from retraining.dataset.layouts.folder_names import (
    NO_CLASS,
    SPLIT_WORDS,
    WRAPPERS,
    are_marks,
    are_numbered,
    are_parts,
    split_words,
    words_of,
)
from retraining.dataset.layouts.folders import Folder, Path
from retraining.dataset.layouts.projects import beside_data, is_filler, refuse_no_class, refuse_project
from retraining.dataset.layouts.proposed import joined, layout, line
from retraining.dataset.source_error import SourceError, WithoutClassesError
from retraining.dataset.split import SplitName
from retraining.printable import printable, some_of
from retraining.recipe.layout import Layout

MOST = 0.8
"""Of the images: where so many lie in folders of folders, the others beside them may be no class."""
DEEPEST = 20
"""Folders in each other, up to which a proposal is looked for."""

Parents = dict[Path, tuple[SplitName | None, str | None]]
"""A folder that holds class folders → its split, or None; or a class folder's own split → also its class."""


def guessed(source: str, root: Folder) -> Parents:
    """The folders that hold class folders, each with its split; or class folders' own splits, with their class."""
    at: Path = ()
    folder = root
    while True:
        if splits := _splits(source, at, folder):
            return _with_nested(source, root, splits)
        inner = _without_marks(folder)
        if len(inner) == 1:
            (name, only), *_ = inner.items()
            # Archives wrap all in a folder of their name. One class alone is no reason to look for others in it.
            if not only.full or (only.files and len(only.full) < 2):
                break
        elif not (name := _holds_the_splits(folder)):
            break
        at, folder = (*at, name), folder.full[name]
    if own := _splits_of_classes(source, at, folder):
        return {(*at, *path): (split, path[0]) for path, split in own}
    _refuse_copy(source, at, folder)
    _refuse_alike(source, at, folder)
    _refuse_parts(source, at, folder)
    _refuse_unlike(source, at, folder)
    refuse_project(source, at, folder)
    refuse_no_class(source, at, folder)
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
            ((name, folder),) = folder.full.items()
            at = (*at, name)
        if not (matches := list(_matching(folder, path))):
            raise SourceError(
                f"{source}: layout.{key} of the recipe is {value!r}, but no such folder with files is there; "
                f"it has {some_of(root.full) or 'no folders'}."
            )
        for match in matches:
            if key == "classes":
                _refuse_splits(source, (*at, *match), folder.at(match))
            found[(*at, *match)] = (None if key == "classes" else cast(SplitName, key), None)
    return found


def _refuse_splits(source: str, at: Path, folder: Folder | None) -> None:
    """Whoever names a folder of splits as that of the classes means what is in them."""
    full = folder.full if folder else {}
    words = split_words(full)
    below = {name: _class_folders(name, inner) for name, inner in full.items()}
    if {"train"} < set(words.values()) and len(words) == len(full) and all(below.values()):
        lines = {word: joined(at, *below[name]) for name, word in words.items()}
        raise SourceError(
            f"{source}: layout.classes of the recipe is {joined(at)!r}, but {some_of(full)} in there are splits that "
            f"hold the class folders. {line(**lines)} to keep them, or {layout(classes=joined(at, '*'))} to divide "
            "all anew."
        )


# --- splits -----------------------------------------------------------------------------------------------------------


def _splits(source: str, at: Path, folder: Folder) -> dict[Path, SplitName]:
    """The split folders in a folder, if it has any: their names say so, and class folders are in them."""
    full = folder.full
    words = split_words(full)
    labelled = {path: word for name, word in words.items() if (path := _class_folders(name, full[name]))}
    divided = {"train"} < set(words.values()) and not any(inner.inner for inner in full.values())
    if not labelled and (len(words) == len(full) > 1 or divided):  # also where train_metadata lies beside
        raise WithoutClassesError(
            f"{source}: {some_of(words)} hold images themselves, without class folders; expected "
            f"{printable(min(words))}/<class>/<image>."
        )
    if not labelled or len(full) == 1:  # classes, or one folder around all
        return {}
    if len(words) == 1:
        (name,) = words
        if full[name].files:
            return {}
        raise SourceError(
            f"{source}: {printable(name)} may be a split, or a class beside {some_of(full.keys() - words)}. "
            f"{_as_split(at, name, words[name], full)}, or {layout(classes=joined(at))} if not."
        )
    if "train" not in labelled.values() and len(words) < len(full):
        return {}
    return {(*at, *path): word for path, word in labelled.items()}


def _with_nested(source: str, root: Folder, splits: Mapping[Path, SplitName]) -> Parents:
    """train/ may be divided once more, as train/train and train/val; what else is alike in a split is no class."""
    found: Parents = {}
    for path, split in splits.items():
        folder = root.at(path)
        words = split_words(folder.full) if folder else {}
        if folder and words and len(words) == len(folder.full) and {"train"} < set(words.values()) and split == "train":
            found |= {(*path, name): (word, None) for name, word in words.items()}
        else:
            found[path] = (split, None)
            if folder and "train" in splits.values() and (alike := _alike(folder)):
                stars = {each: "/".join((*where, "*", *alike[3])) for where, each in splits.items()}
                raise SourceError(
                    f"{source}: in {printable('/'.join(path))}, {printable(alike[0])} and {printable(alike[1])} both "
                    f"hold {some_of(alike[2])}: they look like parts, not like classes. {line(**stars)} if they are, "
                    f"or {layout(**{each: '/'.join(where) for where, each in splits.items()})} if they are classes."
                )
    return found


def _as_split(at: Path, name: str, split: SplitName, full: Mapping[str, Folder]) -> str:
    """The line for a folder called as one split is, with the other folder of its classes; nothing trains on a test."""
    alike = sorted(other for other in full if other != name and full[name].full.keys() & full[other].full.keys())
    if split == "train":
        others: dict[str, str] = {"test": joined(at, alike[0])} if len(alike) == 1 else {}
        return f"{line(train=joined(at, name), **others)} if it is the split"
    for other, folder in full.items():
        words = split_words(folder.full)
        if "train" in words.values() and len(words) == len(folder.full):  # data/train, data/val and test
            inner = {word: joined(at, other, each) for each, word in words.items()}
            return f"{line(**inner | {split: joined(at, name)})} if it is the split"
    train = joined(at, alike[0]) if len(alike) == 1 else "<the folder to train on>"
    return f"{line(train=train, **{split: joined(at, name)})} if it is the split"


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


def _holds_the_splits(folder: Folder) -> str:
    """The one folder that holds split folders of classes, beside others that hold no folders; empty for none."""
    deep = [name for name, inner in folder.full.items() if inner.inner]
    if len(deep) != 1:
        return ""
    words = split_words(folder.full[deep[0]].inner)
    divided = "train" in words.values() and len(set(words.values())) > 1
    below = [each for name, each in folder.full[deep[0]].inner.items() if name in words and each.full]
    return deep[0] if divided and below and len(words) == len(folder.full[deep[0]].inner) else ""


def _splits_of_classes(source: str, at: Path, folder: Folder) -> list[tuple[Path, SplitName]]:
    """<class>/<split>/<image>: (class, …, split folder) and split of each, if every class is laid out so."""
    found: list[tuple[Path, SplitName]] = []
    without, held = [], dict[str, list[set[str]]]()
    for label, outer in folder.full.items():
        below, inner = outer.unwrapped()
        words = split_words(inner.full)
        if inner.stray or "train" not in words.values() or len(set(words.values())) < 2:
            without.append(label)
            continue
        if len(words) < len(inner.full):
            without.append(label)
        found += [((label, *below, name), word) for name, word in words.items()]
        held[label] = [set(inner.full[name].full) for name in words]
    if not found:
        return []
    _refuse_whole_sets(source, at, folder, found, held)
    if without:
        raise SourceError(
            f"{source}: {some_of(held)} divided into {some_of({path[-1] for path, _ in found})}, and "
            f"{some_of(without)} not, or not only. Divide it likewise, or let all be divided here: "
            f"{layout(classes=joined(at))}."
        )
    return found


def _refuse_whole_sets(
    source: str, at: Path, folder: Folder, found: list[tuple[Path, SplitName]], held: Mapping[str, list[set[str]]]
) -> None:
    """The same folders in all splits of a folder: these are the classes, and it is a whole set of them, no class."""
    classes = {label: common for label, splits in held.items() if len(common := set.intersection(*splits)) > 1}
    if not classes:
        return
    several = set.intersection(*classes.values()) if len(classes) == len(held) > 1 else set[str]()
    starred = {word: ("*", *path[1:]) for path, word in found if path[0] in classes}
    if len(several) > 1 and all(("*", *path[1:]) in starred.values() for path, _ in found):
        lines = {word: joined(at, *path) for word, path in starred.items()}
        raise SourceError(
            f"{source}: {some_of(classes)} each hold {some_of({path[-1] for path, _ in found})}, with folders of "
            f"classes in them ({some_of(several)}). {line(**lines)} if they are parts of one set, or "
            f"{layout(classes=joined(at, min(classes), *starred[found[0][1]][1:-1], '*'))} and the like for one of "
            "them alone."
        )
    whole = max(classes, key=lambda label: folder.full[label].total)
    lines = {word: joined(at, *path) for path, word in found if path[0] == whole}
    raise SourceError(
        f"{source}: {printable(whole)} holds {some_of({path[-1] for path, _ in found if path[0] == whole})}, with "
        f"folders of classes in them ({some_of(classes[whole])}): it is a whole data set, and no class beside "
        f"{some_of(folder.full.keys() - {whole})}. {line(**lines)} to take it alone."
    )


# --- what is no class -------------------------------------------------------------------------------------------------


def _without_marks(folder: Folder) -> dict[str, Folder]:
    """The folders in a folder, without what is drawn over the images of the only other one, or written about them."""
    full = folder.full
    others = {name: inner for name, inner in full.items() if not are_marks(name)}
    if len(others) != 1 or len(full) == 1:
        return full
    ((_, other),) = others.items()
    return others if other.inner or not sum(full[name].pictures for name in full.keys() - others) else full


def _copy_in(folder: Folder) -> Path:
    """The path to a folder that holds what lies beside it once more, as where an archive was unpacked in itself."""
    beside = folder.full
    for name, inner in beside.items():
        held = inner.inner
        common = held.keys() & beside.keys() if held else set[str]()
        if len(common) > 1 and 2 * len(common) >= len(held):
            return (name, *inner.unwrapped()[0])
    return ()


def _refuse_copy(source: str, at: Path, folder: Folder) -> None:
    if copy := _copy_in(folder):
        told = f"{printable(joined(at, *copy))} holds folders that lie beside it, too"
        alone = f"{line(classes=joined(at, *copy))} to take it alone, or move it away."
        if copy[0].lower() in NO_CLASS or set(words_of(copy[0])) & set(SPLIT_WORDS):
            alone = "Move it away, or the others into a folder train beside it."
        raise SourceError(
            f"{source}: {told} ({some_of(folder.full[copy[0]].inner)}): it is a copy of them, or a split, and no "
            f"class. {alone}"
        )


def _alike(folder: Folder) -> tuple[str, str, set[str], Path, Path] | None:
    """Two folders that hold the same folders, these, and where in each of both."""
    full = folder.full
    deep = sorted((name for name, inner in full.items() if inner.inner), key=lambda name: -full[name].total)[:40]
    held = {name: {each.lower(): each for each in full[name].inner} for name in deep}
    for one, other in combinations(deep, 2):
        common = {
            name for name in held[one].keys() & held[other].keys() if not are_marks(name) and name not in WRAPPERS
        }
        most = min(len(held[one]), len(held[other])) if are_numbered((one, other)) else len(held[one] | held[other])
        if common and 2 * len(common) >= most and (len(common) > 1 or are_numbered((one, other))):
            paths = full[one].unwrapped()[0], full[other].unwrapped()[0]
            return one, other, {held[one][name] for name in common}, *paths
    return None


def _refuse_alike(source: str, at: Path, folder: Folder) -> None:
    """Folders that hold the same folders look like splits, or like parts of one set, not like classes."""
    if not (found := _alike(folder)):
        return
    one, other, common, below, besides = found
    train, test = joined(at, one, *below), joined(at, other, *besides)
    parts = f"{layout(classes=joined(at, '*', *below))} if they are parts of one set, " if below == besides else ""
    words = split_words(common)
    first = f"{line(train=train, test=test)} if they are, or "
    if "train" in words.values():
        parts, lines = "", {word: joined(at, "*", *below, name) for name, word in words.items()}
        first = f"{line(**lines)} if those are the splits, or "
    raise SourceError(
        f"{source}: {printable(one)} and {printable(other)} both hold {some_of(common)}: they look like splits, not "
        f"like classes. {first}{parts}{layout(classes=train)} to take one alone, {layout(classes=joined(at))} if they "
        "are classes all the same."
    )


def _refuse_parts(source: str, at: Path, folder: Folder) -> None:
    """images_001 and images_002 are one set that was too large for one folder."""
    full = folder.full
    if len(full) > 1 and are_parts(full):
        merged = any(inner.inner for inner in full.values())
        each = f"{layout(classes=joined(at, '*'))} if each holds class folders, or " if merged else ""
        raise WithoutClassesError(
            f"{source}: {some_of(full)} look like parts of one set, not like classes; expected <class>/<image>. "
            f"Put into the recipe {each}{layout(classes=joined(at))} if they are classes all the same."
        )


def _refuse_unlike(source: str, at: Path, folder: Folder) -> None:
    """A folder of class folders is no class beside other folders: dataset/cat, dataset/dog and testset, docs or tmp.

    Class folders may have folders of their own, by camera or by day. So it takes a name that says something; or nearly
    all images in such folders, and a program beside them or folders that hold folders once more.
    """
    full, odd = folder.full, beside_data(folder)
    deep = {name for name, inner in full.items() if inner.inner}
    flat, likely = full.keys() - deep, sorted(deep - odd, key=lambda name: (-full[name].pictures, name))
    if not likely or not (flat or odd):
        return
    first, rest = likely[0], full.keys() - odd
    by_name = len(deep) == 1 and (is_filler(first) or all(set(words_of(each)) & set(SPLIT_WORDS) for each in flat))
    most = sum(full[name].pictures for name in likely) >= MOST * folder.pictures
    deeper = folder.code or any(each.inner for name in likely for each in full[name].inner.values())
    if by_name or (odd and rest == {first}) or (flat and most and deeper):
        others = f"{some_of(flat)} not" if flat | {first} == full.keys() else f"beside {some_of(full.keys() - {first})}"
        inside = " if all classes are in there, "
        ways = inside.join(_inside(source, at, name, full[name]) for name in likely[:2])
        raise SourceError(
            f"{source}: {printable(first)} holds folders of its own ({some_of(full[first].inner)}), {others}: one of "
            f"them may be no class. Put into the recipe {ways}{inside}or {layout(classes=joined(at))} if not."
        )


def _inside(source: str, at: Path, name: str, folder: Folder) -> str:
    """The line for what is in a folder of class folders or of splits."""
    below, inner = folder.unwrapped()
    path = (*at, name, *below)
    if copy := _copy_in(inner):
        return layout(classes=joined(path, *copy))
    try:
        parents = guessed(source, inner) if len(path) < DEEPEST else {}
    except SourceError:
        return f"{layout(classes=joined(path))} (which is not clear itself: check it alone)"
    lines = {split: joined(path, *each) for each, (split, label) in parents.items() if split and label is None}
    if len(lines) == len(parents) > 1:
        return layout(**lines)
    each = next((each for each, (split, _) in parents.items() if split is None), ())
    return layout(classes=joined(path, *each))


# --- parts ------------------------------------------------------------------------------------------------------------


def _matching(folder: Folder, path: Path) -> Iterator[Path]:
    """The paths below a folder, of folders that hold anything, that a path with * for any name stands for."""
    if not path:
        if folder.total:
            yield ()
        return
    full = folder.full
    for name in sorted(full) if path[0] == "*" and "*" not in full else path[:1]:
        if inner := full.get(name):
            yield from ((name, *rest) for rest in _matching(inner, path[1:]))
