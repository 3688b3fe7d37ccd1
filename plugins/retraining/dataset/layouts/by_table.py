"""The classes of images by a table beside them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set

from retraining.dataset.layouts.folder_names import is_whole, split_words
from retraining.dataset.layouts.ignored import why_path_ignored
from retraining.dataset.layouts.layout import Understood, without_marks
from retraining.dataset.layouts.table import Table
from retraining.dataset.layouts.table_columns import OF_NO_SPLIT, asked, columns_of, image_column, split_of
from retraining.printable import printable
from retraining.recipe.layout import Layout


def understand_table(
    table: Table, names: Iterable[str], said: Layout | None = None, known: Set[str] = frozenset()
) -> Understood:
    """Each of a source's files that the table names, with its class: one of those known, where these are given.

    Raises SourceError, with the reason, where the table does not tell their classes.
    """
    shown, found = printable(table.name), Understood(places={})
    images = without_marks(names, found, table.name)
    read = columns_of(table, images, said or Layout(), known)
    found.tables[shown], found.called_so = read.taken, read.called_so
    called = _called(images, read.key, table)
    twice, without = set[str](), set[str]()
    for said_of, place in read.rows():
        image = called.get(read.key(said_of), "")
        if image is None:
            found.leave_out(f"named in {shown}, and several files are called so", said_of)
        elif not image:
            found.leave_out(f"named in {shown}, and not there", said_of)
        elif not place[-1]:
            found.leave_out(f"{'of no split' if place is OF_NO_SPLIT else 'without a class'} in {shown}", image)
            without.add(image)
        elif found.places.setdefault(image, place) != place:
            twice.add(image)
    for name in images:
        if name in twice:
            found.leave_out(several(table.name), name)
            del found.places[name]
        elif name not in found.places and name not in without:
            found.leave_out(f"not in {shown}", name)
    if read.split is None:
        found.split_by_folders()
    if read.unread and not found.splits:
        found.undivided[shown] = printable(read.unread)
    return found


def several(table: str) -> str:
    """Why an image is left out that a table of this name places twice."""
    return f"in several classes or splits in {printable(table)}"


def why_silent(table: str, told: Understood) -> str:
    """A sentence about a table that names images and tells no two classes."""
    if twice := told.left_out.get(several(table)):
        return (
            f"{printable(table)} has several classes for {twice.files} images ({', '.join(twice.examples)}), as boxes "
            "and tags do; a model of whole pictures has one for each. Leave one there, or cut the boxes out into class "
            "folders."
        )
    labels = {label for _, _, label in told.places.values()}
    return f"{printable(table)} tells no two classes: {_some(labels) or 'none'}."


def listed(table: Table, names: Iterable[str]) -> set[str]:
    """The images that a list names, whatever else it says of them. Raises SourceError where it names none."""
    images = list(names)
    table, image, key = image_column(table, images, Layout())
    called = _called(images, key, table)
    found = {called.get(key(asked(row[image]))) for row in table.rows}
    return {name for name in found if name}


def together(found: Mapping[str, Understood], names: Iterable[str]) -> Understood | None:
    """Several tables as one, where each is called as another split is: train.csv and test.csv. None where not."""
    words = split_words(found)
    found = {table: one for table, one in found.items() if table in words or not is_whole(table)}
    if "train" not in words.values() or not len(set(words.values())) == len(words) == len(found):
        return None
    whole, twice = Understood(places={}), set[str]()
    trained = {label for table, one in found.items() if words[table] == "train" for _, _, label in one.places.values()}
    for table, one in found.items():
        strange = {label for _, _, label in one.places.values()} - trained
        if strange:  # another column, or another thing
            for name in one.places:
                whole.leave_out(f"in {printable(table)}, which tells other classes ({_some(strange)})", name)
            continue
        whole.tables |= one.tables
        whole.splits[printable(table)] = words[table]
        for name, (_, above, label) in one.places.items():
            if name in whole.places:
                twice.add(name)
            whole.places[name] = (words[table], above, label)
    left = {name for one in found.values() for name in one.places}
    for name in names:
        if name in twice:
            del whole.places[name]
            whole.leave_out("in several tables", name)
        elif name not in whole.places and name not in found and name not in left:
            whole.leave_out(why_path_ignored(name) or "in no table", name)
    return whole


def _some(labels: Set[str]) -> str:
    shown = ", ".join(printable(label) for label in sorted(labels)[:3])
    return f"{shown}, …" if len(labels) > 3 else shown


def _called(images: Iterable[str], key: Callable[[str], str], table: Table) -> dict[str, str | None]:
    """Image by its key; None where several have one. Those in the table's own folder go before others, and then those
    in a folder of its split: train.csv means train/1.jpg, and not test/1.jpg."""
    near, alike, far = (dict[str, str | None]() for _ in range(3))
    split = split_of(table.name.rpartition("/")[2].rpartition(".")[0])
    of_split: dict[str, bool] = {}
    for name in images:
        folder = name.rpartition("/")[0]
        if split and folder not in of_split:
            of_split[folder] = split in map(split_of, folder.split("/"))
        is_near = bool(table.folder) and name.startswith(table.folder)
        called, of_name = near if is_near else alike if of_split.get(folder) else far, key(name)
        called[of_name] = None if of_name in called else name
    return far | alike | near
