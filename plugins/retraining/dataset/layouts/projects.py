"""What lies beside the data of a project, by its name: programs, plots, results, copies. It is no class. Pure."""

from __future__ import annotations

import re

from retraining.dataset.layouts.folder_names import (
    FIGURES,
    NO_CLASS,
    PROJECT,
    classes_with_splits,
    says,
    split_words,
    words_of,
)
from retraining.dataset.layouts.folders import Folder, Path
from retraining.dataset.layouts.proposed import joined, layout, line
from retraining.dataset.source_error import SourceError, WithoutClassesError
from retraining.printable import some_of

COPY = re.compile(r"(.+?)(?: - copy| copy| ?\(\d+\))+", re.IGNORECASE)
"""What systems call a second folder of a name."""


def beside_data(folder: Folder) -> set[str]:
    """Folders called as what lies beside the data of a project, where something says that this is one: a program, other
    folders of folders, or that all are called so."""
    full = folder.full
    if len(full) < len(folder.folders):  # empty ones are told of first: somebody wanted these
        return set()
    deep = {name for name, inner in full.items() if inner.inner}
    words = {name for name in full if not any(sign.isdigit() for sign in name)}  # model 1, model 2
    odd = {name for name in words if says(name, PROJECT | NO_CLASS)}
    if odd or folder.code:
        odd |= {name for name in words if says(name, PROJECT | NO_CLASS | FIGURES)}
    whole = odd == full.keys() and any(says(name, PROJECT) for name in odd)
    odd |= {name for name in full.keys() - deep if deep and is_filler(name)}
    return odd if folder.code or deep or whole else set()


def refuse_project(source: str, at: Path, folder: Folder) -> None:
    """Beside the one folder of a project's images, or its tables, lie its programs, plots and results."""
    full, odd = folder.full, beside_data(folder)
    rest = full.keys() - odd
    if odd and len(full) > 1 and (len(rest) < 2 or split_words(rest).keys() == rest):
        beside = f" beside {some_of(rest)}" if rest else ""
        raise WithoutClassesError(
            f"{source}: {some_of(odd)}{beside} look like folders of a project, not like classes; expected "
            f"<class>/<image>. {line(classes='<the folder that holds the classes>')}, or "
            f"{layout(classes=joined(at))} if these are classes."
        )


def refuse_no_class(source: str, at: Path, folder: Folder) -> None:
    """Names that beside classes are those of none; and class and split in one name."""
    full = folder.full
    if classes_with_splits(full):
        raise SourceError(
            f"{source}: {some_of(full)} look like a class and a split in one name. Move each into a folder of its "
            f"split (train/<class>, test/<class>), or put into the recipe "
            f"{layout(classes=joined(at))} if they are classes."
        )
    called_so = beside_data(folder)
    copies = [name for name in full if (of := COPY.fullmatch(name)) and of[1] in full]
    odd = [name for name in full if name.lower() in NO_CLASS or name in called_so]
    if (copies or odd) and len(full) - len(copies or odd) > 1:
        raise SourceError(
            f"{source}: {some_of(copies or odd)} beside {some_of(full.keys() - set(copies or odd))} may be no class. "
            f"Move it away, or put into the recipe {layout(classes=joined(at))} if it is one."
        )


def is_filler(name: str) -> bool:
    """Whether a folder's name says nothing: data, images, photos."""
    return not words_of(name) and any(letter.isalpha() for letter in name)
