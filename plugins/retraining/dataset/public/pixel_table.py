"""Pictures as rows of numbers in CSV files → class folders: FER-2013, Kaggle's MNIST, Sign Language MNIST, HAM10000.

A row is a square picture: n x n values of grey, or three times as many, red, green and blue of one pixel after another.
Rows are read one by one, for these files have hundreds of megabytes.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from retraining.dataset.layouts.pixel_columns import PixelColumns, pixel_columns, separator_of, sides_of
from retraining.dataset.layouts.table_columns import plain, split_of
from retraining.dataset.progress import Progress, in_log
from retraining.dataset.public.class_names import ClassNames, class_names, named
from retraining.dataset.public.emnist import is_emnist, mapping_beside
from retraining.dataset.public.image_folder import ImageFolder
from retraining.dataset.public.png import NAMELESS, png_of
from retraining.dataset.public.shard_names import splits_of_one_set
from retraining.dataset.source_error import SourceError
from retraining.dataset.split import SplitName
from retraining.printable import printable

log = logging.getLogger(__name__)

ENDINGS = (".csv", ".tsv")
MAX_ROW = 4 * 1024**2
"""Characters of one row: 1,000 x 1,000 pixels."""
VALUES = re.compile(r"[0-9 ]*")
USAGE: dict[str, SplitName] = {"publictest": "validation", "privatetest": "test"}
"""Of FER-2013: the first was what its competition showed, the second what it was decided by."""


@dataclass(frozen=True, kw_only=True)
class _Table:
    name: str
    path: Path
    columns: PixelColumns


def write_pixels(source: Path, target: Path, label: str | None, progress: Progress = in_log) -> int:
    """Write `target`/<split>/<class>/<number>.png of a folder or one file; returns how many.

    `label`: the column of the class, where a person names it. Raises SourceError, ArchiveError where the disk is full.
    """
    folder = source if source.is_dir() else source.parent
    tables, others = _tables([source] if source.is_file() else sorted(source.rglob("*")), folder, label)
    if not tables:
        there = f" ({'; '.join(others[:8])})" if others else ""
        raise SourceError(
            f"{source} holds no table of pixels and classes{there}: a .csv file with the columns label, pixel0, pixel1 "
            "and so on, or emotion and pixels, or with a picture's class and its values in each row and no heading."
        )
    for other in others:
        log.warning("Left out: %s.", other)
    written = ImageFolder(target, progress)
    shape: tuple[int, ...] | None = None
    for name, split in splits_of_one_set(tables).items():
        shape = _write(written, split, tables[name], folder, shape)
    written.tell()
    if not written.count:
        raise SourceError(f"{source}: its tables have no row of a picture and its class.")
    return written.count


def _tables(paths: Sequence[Path], folder: Path, label: str | None) -> tuple[dict[str, _Table], list[str]]:
    """Those of pixels and classes, and what is said of the others."""
    found, others = {}, list[str]()
    for path in paths:
        if not path.name.lower().endswith(ENDINGS) or not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next((row for _, row in _rows(printable(name), file)), [])
        columns = pixel_columns(name, first, label)
        if columns is None:
            others.append(f"{printable(name)} has no columns of pixels")
        elif columns.label is None:
            others.append(f"{printable(name)} has pixels, and no column of classes")
        else:
            found[name] = _Table(name=printable(name), path=path, columns=columns)
    return found, others


def _write(
    written: ImageFolder, split: SplitName | None, table: _Table, folder: Path, shape: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """`shape`: of the pictures before; returns that of these."""
    import numpy as np

    classes = mapping_beside(table.path) or class_names(table.path.parent, folder)
    on_side, columns, width = is_emnist(table.path.name), table.columns, 0
    written.expect(_lines(table.path) - columns.headed)
    with table.path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in _rows(table.name, file):
            where = f"{table.name}: row {number}"
            if number == 1 and columns.headed:
                width = len(row)
                continue
            width = width or len(row)
            if len(row) != width:
                raise SourceError(
                    f"{where} has {len(row)} cells, the first one {width}; correct it, or download it again."
                )
            values = _values(where, " ".join(row[column] for column in columns.pixels))
            shape = shape or _shape(where, len(values))
            if len(values) != np.prod(shape):
                raise SourceError(
                    f"{where} has {len(values)} values of pixels; the pictures before it are {_shown(shape)}. Correct "
                    "it, or put pictures of each size into a folder of their own."
                )
            if (label := _label(where, row, columns, classes)) is None:
                written.left_out["without a label"] += 1
                continue
            pixels = np.frombuffer(values, np.uint8).reshape(shape)
            said = _split(where, row, columns) or split
            written.add(
                said, label, NAMELESS, png_of(np.ascontiguousarray(pixels.swapaxes(0, 1)) if on_side else pixels)
            )
    return shape


def _lines(path: Path) -> int:
    """As many as rows, or nearly: to tell how far it is."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(MAX_ROW), b""))


def _rows(name: str, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """With their numbers, as a spreadsheet has them; without empty ones."""
    budget = MAX_ROW

    def lines() -> Iterator[str]:
        nonlocal budget
        while line := file.readline(budget + 1):
            budget -= len(line)
            if budget < 0:
                raise SourceError(f"{name} has a row of more than {MAX_ROW} characters, which is no picture's.")
            yield line

    try:
        text = lines()
        if not (first := next(text, "")):
            return
        csv.field_size_limit(MAX_ROW)  # else 131,072: 182 x 182 pixels
        rows = csv.reader(_before(first, text), delimiter=separator_of(first))
        for number, row in enumerate(rows, 1):
            budget = MAX_ROW
            if row:
                yield number, row
    except csv.Error as error:
        raise SourceError(f"{name} cannot be read as a table: {error}. Correct it, or download it again.") from None
    except UnicodeDecodeError:
        raise SourceError(f"{name} is no text in UTF-8; save it as CSV UTF-8.") from None


def _before(first: str, others: Iterator[str]) -> Iterator[str]:
    yield first
    yield from others


def _values(where: str, text: str) -> bytes:
    try:
        if VALUES.fullmatch(text):
            return bytes(map(int, text.split()))
    except ValueError:  # more than a byte, or thousands of digits
        pass
    wrong = next((each for each in text.split() if not VALUES.fullmatch(each) or len(each) > 9 or int(each) > 255), "")
    raise SourceError(
        f"{where} has {printable(wrong)[:40]!r} among its pixels, which are whole numbers from 0 to 255; write them so."
    )


def _shape(where: str, count: int) -> tuple[int, ...]:
    if found := sides_of(count):
        return found
    raise SourceError(
        f"{where} has {count} values of pixels. Pictures are squares, of n x n values or three times as many (red, "
        "green and blue of one pixel after another). If one column is no pixel, name that of the class: --label COLUMN."
    )


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _label(where: str, row: Sequence[str], columns: PixelColumns, classes: ClassNames | None) -> str | None:
    assert columns.label is not None  # as the tables were chosen
    text = row[columns.label].strip()
    if re.fullmatch(r"[0-9]+\.0+", text):  # as pandas writes numbers of which one was missing
        text = text.partition(".")[0]
    return named(where, text, classes) or None


def _split(where: str, row: Sequence[str], columns: PixelColumns) -> SplitName | None:
    if columns.split is None:
        return None
    text = row[columns.split].strip()
    if found := USAGE.get(plain(text)) or split_of(text):
        return found
    raise SourceError(f"{where} is of the split {printable(text)[:40]!r}; known are train, validation and test.")
