"""A table beside the images that tells their classes: labels.csv of a competition, metadata.csv of a hub. Pure.

A column names the images, by their paths or their names, with or without the ending; one tells the class, and one may
tell the split. Which ones, their names and values say, or the recipe.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from retraining.dataset.ignored import why_ignored
from retraining.dataset.layout import Understood, split_words
from retraining.dataset.names import printable
from retraining.dataset.source_error import SourceError
from retraining.dataset.split import SplitName
from retraining.recipe.layout import Layout

ENDINGS = (".csv", ".tsv")
MAX_BYTES = 25 * 1024**2
MAX_ROWS = 5_000_000
SAMPLE = 20_000
"""Rows that columns are told by, from all over the table."""
LEAST = 0.5
"""Of the rows or of the images, one of the other; below it a table that nobody named is of other things."""
CLASS = (
    "label", "labels", "class", "classes", "classname", "classlabel", "labelname", "category", "categoryname", "breed",
    "species", "diagnosis", "target",
)  # fmt: skip
SPLIT = ("split", "set", "subset", "partition", "datasplit")
UTF_16 = (b"\xff\xfe", b"\xfe\xff")

Key = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Its name is that in the source; without a heading its columns are called 1, 2 and so on."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def folder(self) -> str:
        """Where it lies, with the last slash."""
        return self.name.rpartition("/")[0] + "/" if "/" in self.name else ""


def decoded(name: str, body: bytes) -> str:
    """Raises SourceError for what is no text."""
    try:
        return body.decode("utf-16" if body.startswith(UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{printable(name)} is no text in UTF-8 (byte {error.start}); save it as CSV UTF-8."
        ) from None


def read_table(name: str, text: str) -> Table:
    """The separator is the one that the first line has most of. Raises SourceError."""
    head = text.partition("\n")[0]
    separator = max(",;\t|", key=head.count)
    rows = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
            if len(rows) > MAX_ROWS:
                raise SourceError(f"{printable(name)} has more than {MAX_ROWS} rows; split it.")
    except csv.Error as error:
        raise SourceError(f"{printable(name)} cannot be read as a table: {error}.") from None
    if not rows:
        raise SourceError(f"{printable(name)} is empty.")
    width = len(rows[0])
    uneven = next((number for number, row in enumerate(rows, 1) if len(row) != width), None)
    if uneven:
        raise SourceError(
            f"{printable(name)}: row {uneven} has {len(rows[uneven - 1])} cells, the first one has {width}; correct it."
        )
    return Table(name=name, columns=rows[0], rows=rows[1:])


def understand_table(table: Table, names: Iterable[str], said: Layout | None = None) -> Understood:
    """Each of a source's files that the table names, with its class.

    Raises SourceError, with the reason, where the table does not tell their classes.
    """
    shown, found, images = printable(table.name), Understood(places={}), list[str]()
    for name in names:
        if why := _ignored(name):
            if name != table.name:
                found.leave_out(why, name)
        else:
            images.append(name)
    read = _read_as(table, images, said or Layout())
    found.tables[shown] = read.taken
    called = _called(images, read.key)
    twice = set[str]()
    for asked, place in read.rows():
        image = called.get(read.key(asked), "")
        if image is None:
            found.leave_out(f"named in {shown}, and several files are called so", asked)
        elif not image:
            found.leave_out(f"named in {shown}, and not there", asked)
        elif not place[-1]:
            found.leave_out(f"without a class in {shown}", image)
        elif found.places.setdefault(image, place) != place:
            twice.add(image)
    for name in images:
        if name in twice:
            found.leave_out(f"in several classes or splits in {shown}", name)
            del found.places[name]
        elif name not in found.places:
            found.leave_out(f"not in {shown}", name)
    if read.split is None:
        found.split_by_folders()
    return found


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A table, and what its columns are."""

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

    def rows(self) -> Iterator[tuple[str, tuple[SplitName | None, str, str]]]:
        for row in self.table.rows:
            split = None if self.split is None else self.words[row[self.split]]
            yield _asked(row[self.image]), (split, "", row[self.label])


def _called(images: Iterable[str], key: Key) -> dict[str, str | None]:
    """Image by its key; None where several have one."""
    called: dict[str, str | None] = {}
    for name in images:
        of_name = key(name)
        called[of_name] = None if of_name in called else name
    return called


# --- which column -----------------------------------------------------------------------------------------------------


def _read_as(table: Table, images: Sequence[str], said: Layout) -> _Read:
    table, image, key = _image_column(table, images, said)
    if not said.class_column and (one_hot := _one_hot(table, image)):
        table, image = one_hot, 0
    label = _class_column(table, image, said.class_column)
    split = _split_column(table, {image, label})
    words = {} if split is None else split_words({row[split] for row in table.rows})
    return _Read(table=table, key=key, image=image, label=label, split=split, words=words)


def _image_column(table: Table, images: Sequence[str], said: Layout) -> tuple[Table, int, Key]:
    """The table (with its first row among the others where that is no heading), the column, and what to compare by."""
    asked = said.image_column
    columns = [_column(table, asked, "image_column")] if asked else range(min(len(table.columns), 50))
    sample = [*table.rows[:: max(1, len(table.rows) // SAMPLE)]]
    best, column, key = 0.0, 0, _KEYS[0](table.folder)
    for make in _KEYS:
        of_name = make(table.folder)
        there = {of_name(name) for name in images}
        for number in columns:
            share = sum(of_name(_asked(row[number])) in there for row in sample) / max(1, len(sample))
            if share > best:
                best, column, key = share, number, of_name
        if best > 0.99:
            break
    there = {key(name) for name in images}
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
    called = [number for name in CLASS for number in others if _plain(table.columns[number]) == name]
    if called:
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


def _split_column(table: Table, taken: set[int]) -> int | None:
    return next((n for n in range(len(table.columns)) if n not in taken and _is_split(table, n)), None)


def _is_split(table: Table, number: int) -> bool:
    """Whether each image is said to be of a split that we have, and some are to be trained on."""
    if _plain(table.columns[number]) not in SPLIT:
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


# --- parts ------------------------------------------------------------------------------------------------------------


def _ignored(name: str) -> str | None:
    return next((why for part in name.split("/") if (why := why_ignored(part))), None)


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


def chosen(names: Iterable[str], said: str | None = None) -> list[str]:
    """The tables of a source: the one that the recipe names, if it is there, or those that lie as high as any does."""
    if said:
        named = (name for name in names if f"/{name}".endswith(f"/{said}"))
        return sorted(named, key=lambda name: name.count("/"))[:1]
    tables = [name for name in names if name.lower().endswith(ENDINGS) and _ignored(name) == "notes"]
    depth = min((name.count("/") for name in tables), default=0)
    return [name for name in tables if name.count("/") == depth]


def together(found: Mapping[str, Understood], names: Iterable[str]) -> Understood | None:
    """Several tables as one, where each is called as another split is: train.csv and test.csv. None where not."""
    words = split_words(found)
    if "train" not in words.values() or not len(set(words.values())) == len(words) == len(found):
        return None
    whole, twice = Understood(places={}), set[str]()
    for table, one in found.items():
        whole.tables |= one.tables
        whole.splits[printable(table)] = words[table]
        for name, (_, above, label) in one.places.items():
            if name in whole.places:
                twice.add(name)
            whole.places[name] = (words[table], above, label)
    for name in names:
        if name in twice:
            del whole.places[name]
            whole.leave_out("in several tables", name)
        elif name not in whole.places and name not in found:
            whole.leave_out(_ignored(name) or "in no table", name)
    return whole
