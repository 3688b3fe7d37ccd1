"""What is special in EMNIST: its pictures lie on their side, and a mapping of its own names its numbers.

https://www.nist.gov/itl/products-and-services/emnist-dataset: emnist-letters-train-… and emnist-letters-mapping.txt,
of lines `1 65 97`: a number, and the characters (by their codes) that it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from retraining.dataset.public.class_names import ClassNames, text_of
from retraining.dataset.source_error import SourceError
from retraining.printable import printable

NAME = re.compile(r"(emnist-[a-z]+)-(?:train|test)\b.*", re.IGNORECASE)
LINE = re.compile(r"(\d{1,3}) +(\d{1,3})(?: +\d{1,3})*", re.ASCII)
LOWER = "_lower"
"""Behind a small letter that is another class than its capital: names that differ only in case cannot be kept apart."""


def is_emnist(name: str) -> bool:
    """By the name of one of its files, as the makers call it."""
    return NAME.fullmatch(name) is not None


def mapping_beside(path: Path) -> ClassNames | None:
    """Number → name, of the mapping beside one of its files; None without any."""
    match = NAME.fullmatch(path.name)
    mapping = path.with_name(f"{match[1]}-mapping.txt") if match else None
    if mapping is None or not mapping.is_file():
        return None
    letters = dict(_lines(mapping))
    capitals = {letter for letter in letters.values() if letter.isupper()}
    return {
        number: f"{letter}{LOWER}" if letter.islower() and letter.upper() in capitals else letter
        for number, letter in letters.items()
    }


def _lines(mapping: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text_of(mapping.name, mapping).splitlines(), 1):
        if line.strip():
            match = LINE.fullmatch(line.strip())
            if not match:
                raise SourceError(
                    f"{mapping.name}: line {number} is {printable(line)[:40]!r}; a line of EMNIST's mappings is a "
                    "number and the codes of its characters, as in 1 65 97. Download it again, or remove it."
                )
            yield int(match[1]), chr(int(match[2]))
