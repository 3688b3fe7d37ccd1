"""The regular expressions of AWS's service models, written for Java, as Python ones.

What differs and occurs in the models: `\\p{…}` classes, `\\w` and `\\d` (ASCII in Java), surrogate pairs as ranges,
a quantifier behind `$`, an unescaped `-` or `[` inside a class, `\\z`. In Java `.` stops at more line ends than in
Python; that is left as in Python, where the models' patterns cannot backtrack without end on such a character.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

_POSIX = {
    "Alnum": "0-9A-Za-z",
    "Alpha": "A-Za-z",
    "Digit": "0-9",
    "Print": "\\x20-\\x7e",
    "Graph": "\\x21-\\x7e",
    "ASCII": "\\x00-\\x7f",
    "Punct": "!-/:-@\\[-`{-~",
    "Space": "\\s",
}
_TOKEN = re.compile(r"\\p\{(?P<named>\w+)\}|\\u(?P<code>[0-9A-Fa-f]{4})|\\(?P<escaped>.)|(?P<other>.)", re.DOTALL)


@functools.cache
def compiled(pattern: str) -> Callable[[str], bool]:
    """Whether a whole string matches. Raises re.error for a pattern that this translation does not cover."""
    translated = re.compile(_translate(pattern), re.ASCII)
    if "\\p{" not in pattern:
        return lambda text: translated.fullmatch(text) is not None
    return lambda text: translated.fullmatch(text if text.isascii() else _with_stand_ins(text)) is not None


def _with_stand_ins(text: str) -> str:
    """The text with one private character for all of a Unicode category, which its class has as a member.

    Python has no such classes, and all letters of Unicode as ranges take a second to gather.
    """
    return "".join(c if c.isascii() else _stand_in(unicodedata.category(c)[0]) for c in text)


def _stand_in(category: str) -> str:
    return chr(0xE000 + ord(category))


def _translate(pattern: str) -> str:
    pattern = re.sub(r"\\uD([89ABab].{2})\\uD([C-Fc-f].{2})", _supplementary, pattern, flags=re.IGNORECASE)
    pattern = re.sub(r"\$\{\d+,\d*\}", "$", pattern)
    result: list[str] = []
    in_class = False
    for token in _TOKEN.finditer(pattern):
        text = token.group()
        if named := token["named"]:
            members = _POSIX.get(named) or _category(named)
            text = members if in_class else f"[{members}]"
        elif code := token["code"]:
            text = f"\\u{code}"
        elif token["escaped"] == "z":
            text = "\\Z"
        elif text == "[":
            text, in_class = ("\\[", True) if in_class else ("[", True)
        elif text == "]":
            in_class = False
        elif text == "-" and in_class and _is_literal(result, pattern[token.end() :]):
            text = "\\-"
        elif in_class and text in "&|~":
            text = f"\\{text}"
        result.append(text)
    return "".join(result)


def _is_literal(before: list[str], after: str) -> bool:
    """Whether a `-` inside a class is no range: beside its brackets, or beside a class such as `\\w`."""
    return before[-1] in ("[", "^", "\\w", "\\d", "\\s") or after.startswith(("]", "\\w", "\\d", "\\s", "\\p"))


def _supplementary(pair: re.Match[str]) -> str:
    high, low = int(f"D{pair[1]}", 16), int(f"D{pair[2]}", 16)
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


@functools.cache
def _category(letter: str) -> str:
    """A Unicode category (`L`, `N`, …) as members of a class: its ASCII characters and the stand-in of all others."""
    members = (chr(code) for code in range(128) if unicodedata.category(chr(code)).startswith(letter))
    return "".join(re.escape(character) for character in members) + _stand_in(letter)
