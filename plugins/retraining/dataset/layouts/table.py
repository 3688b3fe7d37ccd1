"""A table that lies beside images, as text: labels.csv of a competition, metadata.csv of a hub."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from retraining.code_pages import WINDOWS, page_of
from retraining.dataset.layouts.folder_names import SPLIT_WORDS, split_words
from retraining.dataset.layouts.ignored import why_path_ignored
from retraining.dataset.layouts.records import DOCUMENT, LINES, read_records
from retraining.dataset.source_error import SourceError
from retraining.dataset.split import SplitName
from retraining.printable import printable

ENDINGS = (".csv", ".tsv", ".lst", *LINES)
MAYBE = (".txt", DOCUMENT)
"""Of tables, too, and of much else."""
GUESSES = re.compile(r"submission|predict|pseudo|sample_sub|baseline|dummy", re.IGNORECASE)
MAX_BYTES = 25 * 1024**2
MAX_ROWS = 5_000_000
LST = ("index", "label", "path")
"""Columns of what SageMaker's own image classification reads:
docs.aws.amazon.com/sagemaker/latest/dg/image-classification.html."""
SEPARATOR_LINE = re.compile(r"\"?sep=([,;|\t])\"?\r?\n", re.IGNORECASE)
"""With which Excel is told how to read what follows."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


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


def encoding_of(name: str, body: bytes) -> str:
    """Of a table's bytes: what they say, UTF-8, or what Excel still writes. Raises SourceError for what is no text."""
    if body.startswith(UTF_16):
        return "utf-16"
    try:
        body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if page := page_of(body, WINDOWS):
            return page
        raise SourceError(
            f"{printable(name)} is no text in UTF-8 (byte {error.start}), nor plainly in another code page; save it as "
            "CSV UTF-8, or write it anew: iconv -f <its code page, such as cp1251> -t UTF-8."
        ) from None
    return "utf-8-sig"


def read_table(name: str, text: str) -> Table:
    """JSON by its ending; else the separator is the one that the first line has most of. Raises SourceError."""
    if name.lower().endswith((*LINES, DOCUMENT)):
        columns, records = read_records(name, text)
        return Table(name=name, columns=columns, rows=records)
    text = text.lstrip("\r\n")
    if said := SEPARATOR_LINE.match(text):
        text = text[said.end() :]
    head = text.partition("\n")[0]
    separator = said[1] if said else max(",;\t| ", key=lambda sign: head.count(sign) if sign != " " else 0.5)
    rows = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator == " "):
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
    if uneven and separator == " " and min(map(len, rows)) > 1:  # names of classes may have spaces
        rows, width, uneven = [[row[0], " ".join(row[1:])] for row in rows], 2, None
    if uneven:
        raise SourceError(
            f"{printable(name)}: row {uneven} has {len(rows[uneven - 1])} cells, the first one has {width}; correct it."
        )
    if name.lower().endswith(".lst") and width == len(LST):
        return Table(name=name, columns=LST, rows=rows)
    return Table(name=name, columns=rows[0], rows=rows[1:])


def named(names: Iterable[str], said: str) -> list[str]:
    """The table that the recipe names, or with a * for what is other in their names several; the highest there are."""
    found = sorted((name for name in names if _is_called(name, said)), key=lambda name: (name.count("/"), name))
    if "*" not in said:
        return found[:1]
    return [name for name in found if name.count("/") == found[0].count("/")]


def kinds(names: Collection[str]) -> list[str]:
    """Names of tables as a recipe may name them: those that differ in the split alone as one, with a * for it."""
    alike: dict[str, list[str]] = {}
    for name in names:
        folder, slash, last = name.rpartition("/")
        words = re.split(r"([\W_]+)", last)
        starred = "".join("*" if word.lower() in SPLIT_WORDS else word for word in words)
        alike.setdefault(f"{folder}{slash}{starred}", []).append(name)
    found = set[str]()
    for starred, some in alike.items():
        alone = len(some) > 1 and len(some) == sum(1 for name in names if _is_called(name, starred))
        found |= {starred} if alone else set(some)
    return sorted(found)


def _is_called(name: str, said: str) -> bool:
    """Whether the end of a path is what is said, in which a * stands for some of a file's or a folder's name.

    fnmatch's patterns do not go back over what a * took, however many there are.
    """
    wanted = re.sub(r"[\[?]", r"[\g<0>]", said).split("/")
    parts = name.split("/")[-len(wanted) :]
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def levels(names: Iterable[str]) -> list[list[str]]:
    """The tables of a source, those first that may tell most: as tables are written, and as high as any lies."""
    found: dict[tuple[bool, int], list[str]] = {}
    for name in names:
        if name.lower().endswith((*ENDINGS, *MAYBE)) and why_path_ignored(name) == "notes" and not is_guess(name):
            found.setdefault((is_maybe(name), name.count("/")), []).append(name)
    return [found[level] for level in sorted(found)]


def lists_of_splits(names: Iterable[str]) -> Iterator[dict[str, SplitName]]:
    """The lists of one folder that are called as splits are, one for each: train.txt and test.txt."""
    folders: dict[str, dict[str, str]] = {}
    for name in (name for level in levels(names) for name in level):
        folder, _, last = name.rpartition("/")
        folders.setdefault(folder, {})[last.rpartition(".")[0]] = name
    for tables in folders.values():
        words = split_words(tables)
        if "train" in words.values() and 1 < len(words) == len(set(words.values())):
            yield {tables[stem]: split for stem, split in words.items()}


def tables_of_splits(names: Iterable[str]) -> Iterator[dict[str, str]]:
    """Tables of one name, each in a folder that is called as another split is: train/_classes.csv, valid/_classes.csv.
    By these folders."""
    alike: dict[tuple[str, str], dict[str, str]] = {}
    for name in (name for level in levels(names) for name in level):
        folder, _, last = name.rpartition("/")
        alike.setdefault((folder.rpartition("/")[0], last), {})[folder] = name
    for tables in alike.values():
        words = split_words(tables) if len(tables) > 1 else {}
        if "train" in words.values() and 1 < len(words) == len(set(words.values())):
            yield {folder: tables[folder] for folder in words}


def is_guess(name: str) -> bool:
    """Whether a table says what somebody, or nobody, took the images for: sample_submission.csv of a competition."""
    return bool(GUESSES.search(name.rpartition("/")[2]))


def is_maybe(name: str) -> bool:
    """Whether a name is as often that of something else as of a table."""
    return name.lower().endswith(MAYBE)
