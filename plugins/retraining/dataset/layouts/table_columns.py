"""Which column of a table is what, as their names and values say, or the recipe. Pure.

One names the images, by their paths or their names, with or without the ending; one tells the class, or one for each
class has a 1; and one may tell the split.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from urllib.parse import unquote

from retraining.dataset.layouts.folder_names import SPLIT_WORDS, words_of
from retraining.dataset.layouts.proposed import layout
from retraining.dataset.layouts.table import Table
from retraining.dataset.source_error import SourceError
from retraining.dataset.split import SplitName
from retraining.printable import printable
from retraining.recipe.layout import Layout

SAMPLE = 20_000
"""Rows that columns are told by, from all over the table."""
LEAST = 0.5
"""Of the rows or of the images, one of the other; below it a table that nobody named is of other things."""
CLASS = (
    "label", "labels", "class", "classes", "classname", "classlabel", "labelname", "category", "categoryname", "breed",
    "species", "diagnosis", "target", "choice", "variety", "disease", "condition", "emotion", "pathology", "dx",
    "klasse", "clase", "classe", "truelabel", "classid", "categoryid", "labelid", "choices",
)  # fmt: skip
LIKELY = ("finding", "findings", "gesture", "expression", "cultivar", "defect", "material", "genus")
"""Where no column is called as one of those, and one alone as these are."""
SPLIT = ("split", "set", "subset", "partition", "datasplit", "dataset", "fold", "kfold", "phase", "usage", "mluse")
UNREAD = ("split", "partition", "subset", "fold", "folds", "isvalid")
"""How a column's name ends whose values people mean to divide images by."""
FLAGS: Mapping[str, tuple[SplitName, SplitName]] = {
    "istrain": ("train", "test"),
    "istest": ("test", "train"),
    "isvalid": ("validation", "train"),
}
"""What yes and no mean. `is_valid` is fastai's; where most are, it means something else."""
UNASSIGNED = "unassigned"
"""Of Vertex AI: which may be trained on, for what is measured with is told."""
YES, NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
ONE_HOT = {"1.0": "1", "true": "1", "0.0": "0", "false": "0"}
"""As libraries write 1 and 0."""
IMAGE = (
    "image", "imageid", "img", "imgid", "file", "filename", "filepath", "path", "imagepath", "imagename", "imagefile",
    "id", "idcode", "name", "photo", "picture", "sourceref", "filepaths", "images", "files", "imageindex",
)  # fmt: skip
SIGNED = re.compile(r"(\.[A-Za-z]{3,5})\?.*")
"""What stands in an address behind a file's name."""
CHANGED = re.compile(r"^[0-9a-f]{8}-|[^-\w.]+|\.[A-Za-z]{3,5}$")
"""What a server puts before a name, leaves out of it, and its ending."""
NUMBER = re.compile(r"[-+]?[0-9]*(?:[.][0-9]*)?(?:e[-+]?[0-9]+)?|nan", re.I)
"""Or nothing: Keras-RetinaNet's row of an image without boxes has its name alone."""
ONE = 0.9
"""Of the rows; where fewer have exactly one 1, columns of 0 and 1 are not the classes."""

Key = Callable[[str], str]
Place = tuple[SplitName | None, str, str]
"""As in Understood.places."""
OF_NO_SPLIT: Place = (None, "of no split", "")
EMPTY = {"", "nan", "null", "n/a"}
"""What programs write for no class. A class may be called none: of defects, for example."""


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
    def unread(self) -> str:
        """The column that is called as one of splits, or of folds, and whose values name none; empty for none."""
        if self.split is not None:
            return ""
        others = (n for n in range(len(self.table.columns)) if n not in (self.image, self.label))
        return next((self.table.columns[n] for n in others if plain(self.table.columns[n]).endswith(UNREAD)), "")

    @property
    def called_so(self) -> bool:
        """Whether the column of the class is called as such a column is."""
        return bool(_called(self.table, [self.label]))

    @property
    def taken(self) -> dict[str, str]:
        columns = {"image": self.image, "class": self.label} | ({} if self.split is None else {"split": self.split})
        return {what: printable(self.table.columns[number]) for what, number in columns.items()}

    def rows(self) -> Iterator[tuple[str, Place]]:
        """What each row calls its image, and where it says that this belongs."""
        for row in self.table.rows:
            split = None if self.split is None else self.words.get(row[self.split])
            label = "" if row[self.label].lower() in EMPTY else row[self.label]
            if label and self.split is not None and split is None:
                yield asked(row[self.image]), OF_NO_SPLIT
            else:
                yield asked(row[self.image]), (split, "", label)


def columns_of(table: Table, images: Sequence[str], said: Layout, known: Set[str] = frozenset()) -> Columns:
    """`images`: names of a source's files; `known`: classes, where there can be no others.

    Raises SourceError, with the reason, where no column tells classes.
    """
    table, image, key = image_column(table, images, said)
    others = [number for number in range(len(table.columns)) if number != image]
    if known:
        label = _known_column(table, image, known)
    elif not said.class_column and not _called(table, others) and (one_hot := _one_hot(table, image)):
        table, image, label = one_hot, 0, len(one_hot.columns) - 1
    else:
        label = _class_column(table, image, said.class_column)
    split, words = _split_column(table, {image, label})
    return Columns(table=table, key=key, image=image, label=label, split=split, words=words)


def image_column(table: Table, images: Sequence[str], said: Layout) -> tuple[Table, int, Key]:
    """The table (with its first row among the others where that is no heading), the column, and what to compare by."""
    named_so = said.image_column
    columns = [_column(table, named_so, "image_column")] if named_so else range(min(len(table.columns), 50))
    sample = [*table.rows[:: max(1, len(table.rows) // SAMPLE)]]
    best, column, key, there = 0.0, 0, _KEYS[0](table.folder), set[str]()
    ranked: tuple[bool, bool, int, float] = (False, False, 0, 0.0)
    for order, make in enumerate(_KEYS):
        of_name = make(table.folder)
        names = {of_name(name) for name in images}
        for number in columns:
            share = sum(of_name(asked(row[number])) in names for row in sample) / max(1, len(sample))
            # A table has a number of its rows, or an age, and files may be called by numbers.
            rank = (share >= LEAST, plain(table.columns[number]) in IMAGE, -order, share)
            if share and (rank > ranked or not best):
                best, column, key, there, ranked = share, number, of_name, names, rank
        if ranked[:2] == (True, True):
            break
    if not named_so and len(columns) > 1 and not table.columns[column].strip() and best:
        raise SourceError(
            f"{printable(table.name)}: only the column without a name, which counts the rows, has what the images are "
            f"called. Put into the recipe {layout(table=printable(table.name), image_column='<its name>')}."
        )
    there = there or {key(name) for name in images}
    named = there & {key(asked(row[column])) for row in table.rows}
    if not named or not (said.table or best >= LEAST or len(named) >= LEAST * len(there)):
        which = f"column {printable(named_so)!r} names" if named_so else "no column names"
        raise SourceError(
            f"{printable(table.name)}: {which} the images: at most {len(named)} of {len(there)}, "
            f"by {best:.0%} of its rows."
        )
    if key(asked(table.columns[column])) in there and not named_so:
        table = Table(name=table.name, columns=_numbers(len(table.columns)), rows=[table.columns, *table.rows])
    return table, column, key


MOST_SPLITS = 20
"""Values of a column that tells the split."""


def _one_hot(table: Table, image: int) -> Table | None:
    """A table with a column for each class, 1 in one of them and 0 in the others, as one with a column of classes."""
    splits = [number for number in range(len(table.columns)) if _is_split(table, number)]
    others = [number for number in range(len(table.columns)) if number not in (image, *splits)]
    rows = []
    for row in table.rows:
        cells = [ONE_HOT.get(row[number].lower(), row[number]) for number in others]
        if not set(cells) <= {"0", "1"} or cells.count("1") > 1:
            return None
        label = table.columns[others[cells.index("1")]] if "1" in cells else ""
        rows.append([row[image], *(row[number] for number in splits), label])
    if len({row[-1] for row in rows} - {""}) < 2 or sum(bool(row[-1]) for row in rows) < ONE * len(rows):
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
        likely = [n for n in others if plain(table.columns[n].rpartition(".")[2]) in LIKELY]
        words = likely or ([n for n in others if _has_words(table, n)] if _is_headless(table) else [])
        others = words if len(words) == 1 else others
    if len(others) != 1:
        names = ", ".join(printable(table.columns[number]) for number in others[:8])
        raise SourceError(
            f"{shown}: which column tells the class is not clear of {names or 'none'}. Put into the recipe "
            f"{layout(table=shown, class_column='<its name>')}."
        )
    values = {row[others[0]] for row in table.rows}
    if 2 * len(values) > len(table.rows):
        raise SourceError(
            f"{shown}: column {printable(table.columns[others[0]])!r} has {len(values)} values in {len(table.rows)} "
            f"rows, which are no classes. Put into the recipe {layout(table=shown, class_column='<its name>')} if they "
            "are."
        )
    return others[0]


def _is_headless(table: Table) -> bool:
    """Whether its columns are called by their numbers, as `image_column` calls them."""
    return list(table.columns) == _numbers(len(table.columns))


def _numbers(width: int) -> list[str]:
    return [str(number) for number in range(1, width + 1)]


def _has_words(table: Table, number: int) -> bool:
    """Whether a column says anything but numbers."""
    return not all(NUMBER.fullmatch(row[number]) for row in table.rows)


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
    return [n for name in CLASS for n in among if plain(table.columns[n].rpartition(".")[2]) == name]


def _split_column(table: Table, taken: set[int]) -> tuple[int | None, dict[str, SplitName]]:
    """The column, and what each of its values stands for; others than these are of no split that we have."""
    for number in range(len(table.columns)):
        if number not in taken and (words := _split_values(table, number)):
            return number, words
    return None, {}


def _is_split(table: Table, number: int) -> bool:
    return bool(_split_values(table, number)) or plain(table.columns[number]) in SPLIT


def _split_values(table: Table, number: int) -> dict[str, SplitName]:
    """Value → split, where some are to be trained on and some are not. Empty for a column of other things."""
    if len({row[number] for row in table.rows[:: max(1, len(table.rows) // SAMPLE)]}) > MOST_SPLITS:
        return {}
    values = {row[number] for row in table.rows}
    called = plain(table.columns[number])
    if called in FLAGS and {value.lower() for value in values} <= YES | NO:
        yes, no = FLAGS[called]
        most = sum(row[number].lower() in YES for row in table.rows) > len(table.rows) / 2
        return {} if called == "isvalid" and most else {value: yes if value.lower() in YES else no for value in values}
    if len(values) > MOST_SPLITS:
        return {}
    words = {value: said for value in values if (said := split_of(value))}
    if "train" not in words.values():
        return {}
    words |= {value: "train" for value in values if value.lower() == UNASSIGNED}
    certain = called in SPLIT or (words.keys() == values - {""} and len(set(words.values())) > 1)
    return words if certain else {}


def split_of(value: str) -> SplitName | None:
    """What a cell says: PublicTest is a test."""
    said = {SPLIT_WORDS[word] for word in words_of(value) if word in SPLIT_WORDS}
    return said.pop() if len(said) == 1 else None


def _column(table: Table, name: str, key: str) -> int:
    if name in table.columns:
        return list(table.columns).index(name)
    names = ", ".join(printable(column) for column in table.columns[:12])
    raise SourceError(
        f"{printable(table.name)}: layout.{key} of the recipe is {name!r}, but there is no such column; it has {names}."
    )


# --- names -----------------------------------------------------------------------------------------------------------


def asked(cell: str) -> str:
    """A file's name, as a table made anywhere writes it in a cell."""
    return cell.replace("\\", "/").removeprefix("./").lstrip("/")


def plain(column: str) -> str:
    """A column's name without what people write differently."""
    return re.sub(r"[\W_]", "", column.lower())


def _composed(name: str) -> str:
    """macOS writes é as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


def _served(name: str) -> str:
    """Without what servers change of a file's name: Label Studio puts eight digits before it, and _ for spaces."""
    plainly = SIGNED.sub(r"\1", name) if "?" in name else name
    last = _composed(unquote(plainly).rpartition("/")[2]).replace(" ", "_")
    return CHANGED.sub("", last).casefold()


def _stem(name: str) -> str:
    return re.sub(r"\.[A-Za-z]{3,5}$", "", name)


# A file's name, and what a row calls it, as one key; the more of the path, the earlier.
_KEYS: Sequence[Callable[[str], Key]] = (
    lambda folder: lambda name: _composed(name.removeprefix(folder)),
    lambda folder: lambda name: _stem(_composed(name.removeprefix(folder))),
    lambda folder: lambda name: _composed("/".join(name.split("/")[-2:])),
    lambda folder: lambda name: _stem(_composed("/".join(name.split("/")[-2:]))),
    lambda folder: lambda name: _composed(name.rpartition("/")[2]),
    lambda folder: lambda name: _stem(_composed(name.rpartition("/")[2])),
    lambda folder: _served,
)
