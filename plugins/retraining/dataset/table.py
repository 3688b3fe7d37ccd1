"""A table that lies beside images, as text: labels.csv of a competition, metadata.csv of a hub."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from retraining.dataset.ignored import why_path_ignored
from retraining.dataset.names import printable
from retraining.dataset.source_error import SourceError

ENDINGS = (".csv", ".tsv")
MAX_BYTES = 25 * 1024**2
MAX_ROWS = 5_000_000
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


def chosen(names: Iterable[str], said: str | None = None) -> list[str]:
    """The tables of a source: the one that the recipe names, if it is there, or those that lie as high as any does."""
    if said:
        named = (name for name in names if f"/{name}".endswith(f"/{said}"))
        return sorted(named, key=lambda name: name.count("/"))[:1]
    tables = [name for name in names if name.lower().endswith(ENDINGS) and why_path_ignored(name) == "notes"]
    depth = min((name.count("/") for name in tables), default=0)
    return [name for name in tables if name.count("/") == depth]
