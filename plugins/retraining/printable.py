"""Text that strangers chose, as a line for people."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

JOINERS = {"\u200c", "\u200d"}  # without which Persian and many languages of India are misspelt


def printable(name: str) -> str:
    """A file's name for people, on one line: bytes that are no UTF-8 and control characters are escaped."""
    if name.isascii() and name.isprintable():  # as most of a million names are
        return name
    try:
        raw = name.encode("utf-8", "surrogateescape")  # as the file system gave it
    except UnicodeEncodeError:
        raw = name.encode("utf-8", "backslashreplace")
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(letter if _shows(letter) else letter.encode("unicode_escape").decode() for letter in text)


def some_of(names: Iterable[str]) -> str:
    """Some of these, for a sentence."""
    shown = sorted(map(printable, names))
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")


def _shows(letter: str) -> bool:
    return letter in JOINERS or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
