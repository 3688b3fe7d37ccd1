"""Which columns of a table are a picture's pixels, as people who share pictures in CSV call them. Pure.

`pixels`, a text of all of them (FER-2013: emotion,pixels,Usage), or a column for each: pixel0 … pixel783, 1x1 … 28x28,
or without a heading, behind the class.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from retraining.dataset.layouts.table_columns import CLASS, IMAGE, SPLIT, plain
from retraining.dataset.source_error import SourceError
from retraining.printable import printable

TEXT = ("pixels", "pixel", "pixelvalues")
NUMBERED = re.compile(r"([a-z]*)[ _.-]?([0-9]{1,9})(?:[x_,.-]([0-9]{1,9}))?", re.IGNORECASE)
LEAST = 16
"""Columns of pixels: tables of other things have some numbered columns, too."""
SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class PixelColumns:
    """By their numbers from 0 on."""

    pixels: Sequence[int]
    as_text: bool
    """Whether they are one column of texts."""
    label: int | None
    """None where no column tells a class."""
    split: int | None
    headed: bool
    """Whether the first row is no picture."""


def separator_of(line: str) -> str:
    return max(",;\t", key=line.count)


def sides_of(count: int) -> tuple[int, ...] | None:
    """The shape of a square picture of so many values, grey or in three colours; None where there is none."""
    for channels in ((), (3,)):
        pixels, left = divmod(count, math.prod(channels))
        if pixels and not left and math.isqrt(pixels) ** 2 == pixels:
            return (math.isqrt(pixels), math.isqrt(pixels), *channels)
    return None


def pixel_columns(name: str, first: Sequence[str], said: str | None = None) -> PixelColumns | None:
    """By a table's first row; None for one of other things. `said`: the column of the class, by a person.

    Raises SourceError where which column tells the class is not clear, and where the pixels are in disorder.
    """
    cells = [cell.strip() for cell in first]
    if len(cells) >= LEAST and _is_picture(cells) and said is None:
        label = None if sides_of(len(cells)) and not sides_of(len(cells) - 1) else 0
        pixels: Sequence[int] = range(0 if label is None else 1, len(cells))
        return PixelColumns(pixels=pixels, as_text=False, label=label, split=None, headed=False)
    texts = [number for number, cell in enumerate(cells) if plain(cell) in TEXT]
    pixels = texts if len(texts) == 1 else _numbered(name, cells, said)
    if not pixels:
        return None
    taken = set(pixels)
    others = [number for number in range(len(cells)) if number not in taken]
    split = next((number for number in others if plain(cells[number]) in SPLIT and cells[number] != said), None)
    label = _label(name, cells, [number for number in others if number != split], said)
    return PixelColumns(pixels=pixels, as_text=bool(texts), label=label, split=split, headed=True)


def _is_picture(cells: Sequence[str]) -> bool:
    """Whether a first row has values already. Libraries number columns that have no name: 0, 1, 2 and so on."""
    return all(cell.isdecimal() for cell in cells) and cells != [str(number) for number in range(len(cells))]


def _numbered(name: str, cells: Sequence[str], said: str | None) -> list[int]:
    """Columns of one name and a number, in the order of their pixels."""
    matches = {number: match for number, cell in enumerate(cells) if (match := NUMBERED.fullmatch(cell))}
    if said is not None:
        matches = {number: match for number, match in matches.items() if cells[number] != said}
    words = Counter(match[1].lower() for match in matches.values())
    if not words or max(words.values()) < LEAST:
        return []
    word = max(words, key=lambda each: words[each])
    found = [number for number, match in matches.items() if match[1].lower() == word]
    places = [(int(matches[number][2]), int(matches[number][3] or 0)) for number in found]
    for place, before, number in zip(places[1:], places, found[1:], strict=False):
        if place <= before:
            raise SourceError(
                f"{printable(name)}: the column {printable(cells[number])!r} stands behind one of a later pixel. Write "
                "the columns in the order of their pixels, row by row of the picture."
            )
    return found


def _label(name: str, cells: Sequence[str], others: Sequence[int], said: str | None) -> int | None:
    if said is not None:
        if said not in cells:
            names = ", ".join(printable(cells[number]) for number in others[:SHOWN])
            raise SourceError(
                f"{printable(name)} has no column {said!r}; beside those of pixels it has {names or 'none'}."
            )
        return cells.index(said)
    called = [number for number in others if plain(cells[number]) in CLASS]
    left = [number for number in others if plain(cells[number]) not in (*IMAGE, "")]
    found = called or left
    if len(found) > 1:
        names = ", ".join(printable(cells[number]) for number in found[:SHOWN])
        raise SourceError(f"{printable(name)}: several columns may tell the class: {names}. Name one: --label COLUMN.")
    return found[0] if found else None
