"""Which column of a table is what, as their names and values say, or the recipe. Pure.

One names the images, by their paths or their names, with or without the ending; one tells the class, or one for each
class has a 1; and one may tell the split.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from retraining.dataset.folder_names import split_words
from retraining.dataset.names import printable
from retraining.dataset.source_error import SourceError
from retraining.dataset.split import SplitName
from retraining.dataset.table import Table
from retraining.recipe.layout import Layout

SAMPLE = 20_000
"""Rows that columns are told by, from all over the table."""
LEAST = 0.5
"""Of the rows or of the images, one of the other; below it a table that nobody named is of other things."""
CLASS = (
    "label", "labels", "class", "classes", "classname", "classlabel", "labelname", "category", "categoryname", "breed",
    "species", "diagnosis", "target", "choice", "variety", "disease", "condition", "emotion", "pathology", "dx",
    "classid", "categoryid", "labelid",
)  # fmt: skip
SPLIT = ("split", "set", "subset", "partition", "datasplit")

Key = Callable[[str], str]
Place = tuple[SplitName | None, str, str]
"""As in Understood.places."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a table are, by their numbers."""

    table: Table
    key: Key
    """Of a file's name, and of what a row calls it."""
    image: int
    label: int
    split: int | None
    words: Mapping[str, SplitName]
    """What the column of the split says → split."""

    @property
    def taken(self) -> dict[str, str]:
        columns = {"image": self.image, "class": self.label} | ({} if self.split is None else {"split": self.split})
        return {what: printable(self.table.columns[number]) for what, number in columns.items()}

    def rows(self) -> Iterator[tuple[str, Place]]:
        """What each row calls its image, and where it says that this belongs."""
        for row in self.table.rows:
            split = None if self.split is None else self.words[row[self.split]]
            yield _asked(row[self.image]), (split, "", row[self.label])


def columns_of(table: Table, images: Sequence[str], said: Layout, known: Set[str] = frozenset()) -> Columns:
    """`images`: names of a source's files; `known`: classes, where there can be no others.

    Raises SourceError, with the reason, where no column tells classes.
    """
    table, image, key = _image_column(table, images, said)
    if not said.class_column and (one_hot := _one_hot(table, image)):
        table, image, label = one_hot, 0, len(one_hot.columns) - 1
    else:
        label = _known_column(table, image, known) if known else _class_column(table, image, said.class_column)
    split = _split_column(table, {image, label})
    words = {} if split is None else split_words({row[split] for row in table.rows})
    return Columns(table=table, key=key, image=image, label=label, split=split, words=words)


def _image_column(table: Table, images: Sequence[str], said: Layout) -> tuple[Table, int, Key]:
    """The table (with its first row among the others where that is no heading), the column, and what to compare by."""
    asked = said.image_column
    columns = [_column(table, asked, "image_column")] if asked else range(min(len(table.columns), 50))
    sample = [*table.rows[:: max(1, len(table.rows) // SAMPLE)]]
    best, column, key, there = 0.0, 0, _KEYS[0](table.folder), set[str]()
    for make in _KEYS:
        of_name = make(table.folder)
        names = {of_name(name) for name in images}
        for number in columns:
            share = sum(of_name(_asked(row[number])) in names for row in sample) / max(1, len(sample))
            if share > best:
                best, column, key, there = share, number, of_name, names
        if best > 0.99:
            break
    there = there or {key(name) for name in images}
    named = there & {key(_asked(row[column])) for row in table.rows}
    if not named or not (said.table or best >= LEAST or len(named) >= LEAST * len(there)):
        which = f"column {printable(asked)!r} names" if asked else "no column names"
        raise SourceError(
            f"{printable(table.name)}: {which} the images: at most {len(named)} of {len(there)}, "
            f"by {best:.0%} of its rows."
        )
    if key(_asked(table.columns[column])) in there and not asked:
        numbers = [str(number) for number in range(1, len(table.columns) + 1)]
        table = Table(name=table.name, columns=numbers, rows=[table.columns, *table.rows])
    return table, column, key


def _one_hot(table: Table, image: int) -> Table | None:
    """A table with a column for each class, 1 in one of them and 0 in the others, as one with a column of classes."""
    splits = [number for number in range(len(table.columns)) if _is_split(table, number)]
    others = [number for number in range(len(table.columns)) if number not in (image, *splits)]
    rows = []
    for row in table.rows:
        cells = [row[number].removesuffix(".0") for number in others]
        if not set(cells) <= {"0", "1"} or cells.count("1") > 1:
            return None
        label = table.columns[others[cells.index("1")]] if "1" in cells else ""
        rows.append([row[image], *(row[number] for number in splits), label])
    if len({row[-1] for row in rows} - {""}) < 2:
        return None
    names = ", ".join(table.columns[number] for number in others[:3])
    head = [table.columns[image], *(table.columns[number] for number in splits), f"of {names}, …: the one with a 1"]
    return Table(name=table.name, columns=head, rows=rows)


def _class_column(table: Table, image: int, said: str | None) -> int:
    if said:
        return _column(table, said, "class_column")
    others = [number for number in range(len(table.columns)) if number != image]
    others = [number for number in others if table.columns[number] and not _is_split(table, number)]
    if called := _called(table, others):
        # Some tables have a class's number and its name: people know the name.
        return next((number for number in called if not all(row[number].isdigit() for row in table.rows)), called[0])
    shown = printable(table.name)
    if len(others) != 1:
        names = ", ".join(printable(table.columns[number]) for number in others[:8])
        raise SourceError(
            f"{shown}: which column tells the class is not clear of {names or 'none'}. Put into the recipe "
            f"`layout: {{table: {shown}, class_column: <its name>}}`."
        )
    values = {row[others[0]] for row in table.rows}
    if 2 * len(values) > len(table.rows):
        raise SourceError(
            f"{shown}: column {printable(table.columns[others[0]])!r} has {len(values)} values in {len(table.rows)} "
            f"rows, which are no classes. Put into the recipe `layout: {{table: {shown}, class_column: <its name>}}` "
            "if they are."
        )
    return others[0]


def _known_column(table: Table, image: int, known: Set[str]) -> int:
    """The column that says nothing but known classes."""
    others = [number for number in range(len(table.columns)) if number != image]
    telling = [number for number in others if {row[number] for row in table.rows} <= known]
    if len(telling) > 1:
        telling = _called(table, telling)
    if not telling:
        raise SourceError(f"{printable(table.name)}: no column tells one of the {len(known)} classes of each image.")
    return telling[0]


def _called(table: Table, among: Sequence[int]) -> list[int]:
    """Those that are called as a column of classes is; of JSON, by their last key."""
    return [n for name in CLASS for n in among if _plain(table.columns[n].rpartition(".")[2]) == name]


def _split_column(table: Table, taken: set[int]) -> int | None:
    return next((n for n in range(len(table.columns)) if n not in taken and _is_split(table, n)), None)


def _is_split(table: Table, number: int) -> bool:
    """Whether each image is said to be of a split that we have, and some are to be trained on."""
    bare = table.columns[number] == str(number + 1)  # of a table without a heading
    if not bare and _plain(table.columns[number]) not in SPLIT:
        return False
    values = {row[number] for row in table.rows}
    words = split_words(values)
    return "train" in words.values() and len(words) == len(values)


def _column(table: Table, name: str, key: str) -> int:
    if name in table.columns:
        return list(table.columns).index(name)
    names = ", ".join(printable(column) for column in table.columns[:12])
    raise SourceError(
        f"{printable(table.name)}: layout.{key} of the recipe is {name!r}, but there is no such column; it has {names}."
    )


# --- names -----------------------------------------------------------------------------------------------------------


def _asked(cell: str) -> str:
    """A file's name, as a table made anywhere writes it."""
    return cell.replace("\\", "/").removeprefix("./").lstrip("/")


def _plain(column: str) -> str:
    return re.sub(r"[\W_]", "", column.lower())


def _composed(name: str) -> str:
    """macOS writes é as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


def _stem(name: str) -> str:
    return re.sub(r"\.[A-Za-z]{3,5}$", "", name)


# A file's name, and what a row calls it, as one key; the more of the path, the earlier.
_KEYS: Sequence[Callable[[str], Key]] = (
    lambda folder: lambda name: _composed(name.removeprefix(folder)),
    lambda folder: lambda name: _stem(_composed(name.removeprefix(folder))),
    lambda folder: lambda name: _composed(name.rpartition("/")[2]),
    lambda folder: lambda name: _stem(_composed(name.rpartition("/")[2])),
)
