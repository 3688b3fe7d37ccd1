"""Which split a file of many pictures is of, by its name and its folders: train-00000-of-00004.parquet, test/0.tar."""

from __future__ import annotations

from collections.abc import Iterable

from retraining.dataset.layouts.folder_names import SPLIT_WORDS, are_numbered, split_words, words_of
from retraining.dataset.source_error import SourceError
from retraining.dataset.split import SplitName
from retraining.printable import printable


def splits_of(names: Iterable[str]) -> dict[str, SplitName | None]:
    """File → its split; None for all where no name says one. Its own name goes before its folder's.

    Raises SourceError where some names say one and others do not.
    """
    parts = {name: (name.rpartition(".")[0] or name).split("/")[::-1] for name in names}
    told: dict[str, SplitName] = {}
    for level in range(max(map(len, parts.values()), default=0)):
        at_level = {name: each[level] for name, each in parts.items() if level < len(each) and name not in told}
        words = split_words({_without_count(part) for part in at_level.values()})
        told |= {name: words[part] for name, each in at_level.items() if (part := _without_count(each)) in words}
    if told and (silent := next((name for name in parts if name not in told), None)):
        raise SourceError(
            f"{printable(min(told))} is of {told[min(told)]}, and {printable(silent)} says no split; rename it, for "
            "example to train-….., or leave it out."
        )
    return {name: told.get(name) for name in parts}


def splits_of_one_set(names: Iterable[str]) -> dict[str, SplitName | None]:
    """As `splits_of`. Raises SourceError for names that differ by more than a split and a number: of several sets."""
    names = sorted(names)
    sets: dict[tuple[str, ...], str] = {}
    for name in names:
        stem = name.rpartition("/")[2].rpartition(".")[0]
        sets.setdefault(tuple(word for word in words_of(stem) if word not in SPLIT_WORDS), name)
    if len(sets) > 1:
        raise _several(list(sets.values()))
    found = splits_of(names)
    for split in set(found.values()):
        alike = [name for name in found if found[name] == split]
        if len(alike) > 1 and not are_numbered(name.rpartition(".")[0] for name in alike):
            raise _several(alike)
    return found


def _several(names: list[str]) -> SourceError:
    shown = ", ".join(printable(name) for name in names[:8])
    return SourceError(
        f"by their names these are of several sets: {shown}. Put the files of one into a folder of its own, and "
        "name that."
    )


def _without_count(part: str) -> str:
    """train-00000-of-00004 → train."""
    return part.replace("-of-", "-")
