"""Names that strangers gave to files and folders: carried whole, or refused by name before anything is written.

A file's name is for people only and may be any bytes: what is no text is shown escaped. A class's name goes into S3
keys, manifests, a model's answers and CSV, so it is text of any language, and no other class's in another spelling.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping

from retraining.dataset.source_error import SourceError
from retraining.printable import JOINERS, printable

MAX_CHARACTERS, MAX_NAME_BYTES = 100, 255
SIGNS = set(" _-.+()&,'!@=")
# What stands within words: printed apostrophe and dashes, Catalan's and Japan's dots, Hebrew's marks and hyphen,
# Tibetan's and Ethiopia's signs between syllables and words.
WITHIN_WORDS = {*"\u2019\u2013\u2014\u00b7\u30fb\u05be\u05f3\u05f4\u0f0b\u1361"}
RULE = (
    f"up to {MAX_CHARACTERS} letters, digits, vowel signs, spaces and any of _-.+()&,'!@=, beginning with a letter or "
    "digit and not ending with a space"
)

BYTES = (
    " It is no text in UTF-8: rename it, or unpack the archive where it was made (`unzip -O cp936` reads code pages) "
    "and pack it with names in UTF-8."
)


def class_name(folder: str) -> str:
    """A folder's name as its class is called everywhere: macOS writes é as two characters, others as one."""
    return unicodedata.normalize("NFC", folder)


def require_class_names(
    source: str, folders: Iterable[tuple[str, str]], counts: Mapping[str, int] | None = None, tables: Iterable[str] = ()
) -> None:
    """Raises SourceError for a name that cannot be carried, and for two that are one. (parent, class folder) pairs.

    `counts`: images of each class; `tables`: those that tell the classes, where these are of no folders.
    """
    spelt: dict[tuple[str, str], str] = {}
    folded: dict[str, str] = {}
    for parent, folder in sorted(set(folders)):
        name = class_name(folder)
        if not _is_class_name(name):
            way_out = BYTES if _is_bytes(name) else ""
            raise SourceError(f"{source}: {_shown(folder)} cannot be a class name; use {RULE}.{way_out}")
        if (twin := spelt.setdefault((parent, name), folder)) != folder:
            raise SourceError(
                f"{source}: the class folders {twin!a} and {folder!a} spell one name, {name!r}, in two ways; "
                "rename one, or merge them."
            )
        if (twin := folded.setdefault(_folded(name), name)) != name:
            raise SourceError(
                f"{source}: classes {twin!r} and {name!r} differ only in case; rename or merge them."
                f"{_how_to_merge(twin, name, counts, tables) if counts else ''}"
            )


def _how_to_merge(one: str, other: str, counts: Mapping[str, int], tables: Iterable[str]) -> str:
    """How many images each has, and the command that writes the rarer as the other in the cells of tables."""
    rare, usual = sorted((one, other), key=lambda name: counts[name])
    told = f" {rare!r} has {counts[rare]} images, {usual!r} {counts[usual]}."
    # What begins with a dash or a bar would be more than a file's name to perl.
    if not (names := " ".join(shlex.quote(f"./{table}") for table in tables)) or not re.fullmatch(
        r"[\w -]+", f"{rare}{usual}"
    ):
        return told
    cell = rf"(?<![^,;|\t\"]){rare}(?![^,;|\t\"\r\n])"
    return f"{told} To write all as {usual!r}: perl -pi.bak -e 's/{cell}/{usual}/g' {names}"


def as_class_name(text: str) -> str:
    """The nearest name that a class can have: `a/b` → `a_b`."""
    kept = "".join(letter if _may_be_in_class(letter) else "_" for letter in class_name(text))
    kept = kept if kept[:1] and unicodedata.category(kept[0])[0] in "LN" else f"class {kept.lstrip(' ')}"
    return kept[:MAX_CHARACTERS].encode()[:MAX_NAME_BYTES].decode(errors="ignore").rstrip(" ")


def _is_class_name(name: str) -> bool:
    return (
        bool(name)
        and unicodedata.category(name[0])[0] in "LN"
        and not name.endswith(" ")
        and len(name) <= MAX_CHARACTERS
        and len(name.encode("utf-8", "surrogateescape")) <= MAX_NAME_BYTES
        and all(map(_may_be_in_class, name))
    )


def _is_bytes(name: str) -> bool:
    """Whether it is a name of bytes that are no UTF-8, as file systems and old archives may have."""
    return any("\udc80" <= letter <= "\udcff" for letter in name)


def _may_be_in_class(letter: str) -> bool:
    return letter in SIGNS | WITHIN_WORDS | JOINERS or unicodedata.category(letter)[0] in "LMN"


def _folded(name: str) -> str:
    """Equal for names that people, or file systems that do not tell cases apart, take for one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _shown(folder: str) -> str:
    return repr(printable(folder)) if printable(folder) != folder else repr(folder)
