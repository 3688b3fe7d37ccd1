"""What the numbers of classes are called: classnames.txt beside the files, one name a line, from number 0 on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from retraining.dataset.source_error import SourceError
from retraining.printable import printable

NAMES = ("classnames.txt", "classes.txt")
INDEX = "index.json"
"""That of our own shards has the names, too."""
MAX_BYTES = 1024**2
"""Of a text."""
MAX_DIGITS = 9

ClassNames = Mapping[int, str]


def class_names(*folders: Path) -> ClassNames | None:
    """Of the numbers, from the first of these folders that has them; None where the numbers are the names."""
    for folder in folders:
        for path in (folder / name for name in NAMES):
            if path.is_file():
                return _numbered(path.name, [line.strip() for line in text_of(path.name, path).rstrip().splitlines()])
        try:
            classes = json.loads(text_of(INDEX, folder / INDEX))["classes"] if (folder / INDEX).is_file() else None
        except (ValueError, RecursionError, KeyError, TypeError):
            continue
        if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
            return _numbered(INDEX, classes)
    return None


def named(where: str, label: str, classes: ClassNames | None) -> str:
    """A label as its class is called. `where` it stands, for the complaint about a number without a name."""
    if classes is None or not label.isdecimal():
        return label
    if len(label) > MAX_DIGITS or int(label) not in classes:
        raise SourceError(f"{where} is of the class {label[:20]}; there are names of {len(classes)}.")
    return classes[int(label)]


def text_of(called: str, path: Path) -> str:
    """Raises SourceError for what is no short text in UTF-8."""
    if path.stat().st_size > MAX_BYTES:
        raise SourceError(
            f"{printable(called)}: {printable(path.name)} has more than {MAX_BYTES} bytes; it is no text."
        )
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(f"{printable(called)}: {printable(path.name)} is no text in UTF-8; save it so.") from None


def _numbered(source: str, names: list[str]) -> ClassNames:
    """Raises SourceError where a line without a name would shift the others, or two numbers would be one class."""
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name:
            raise SourceError(f"{source} has no name for class {number}: its line is empty; write one, or remove it.")
        if (twin := first.setdefault(name, number)) != number:
            raise SourceError(
                f"{source} calls both class {twin} and class {number} {printable(name)!r}; "
                "give each a name of its own, one a line, from class 0 on."
            )
    return dict(enumerate(names))
