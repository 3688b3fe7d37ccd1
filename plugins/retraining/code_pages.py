"""Text in an old code page that nobody names, where its letters leave hardly a doubt of which. Pure.

German Excel writes CSV in cp1252, Russian Explorer names in cp866, Japanese both in cp932 (Shift-JIS). Read is what
is nothing but words of one script. What may as well be another's (Chinese and Korean, Cyrillic and Hebrew of Windows)
is left to who knows. charset-normalizer always says something: of a word in cp866 that it is Korean, of a German table
that it is Polish; here each wrong guess would be a class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

ACCENTED = "À-ÖØ-Üß-ïñ-öø-üÿŠšŽž"
"""Of western Europe, without what Polish, Turkish and Baltic pages have other letters for."""
KANA = "\u3041-\u3096\u30a1-\u30fa\u30fc"
SIGNS = "\xa0°§€«»\u2013\u2014…·“”„\u2018\u2019"
CYRILLIC_SMALL, CYRILLIC_CAPITAL = "\u0430-\u044f\u0451", "\u0410-\u042f\u0401"


@dataclass(frozen=True, kw_only=True)
class _Script:
    letters: str
    word: str
    """What a word with such letters looks like."""
    signs: str
    sure: str = ""
    """What there must be somewhere, where texts in other pages might pass."""


_WESTERN = _Script(letters=ACCENTED, word=rf"(?=.*[A-Za-z])(?!.*[{ACCENTED}]{{3}}).+", signs=SIGNS)
_CYRILLIC = _Script(
    letters=CYRILLIC_SMALL + CYRILLIC_CAPITAL,
    word=f"[{CYRILLIC_CAPITAL}]?[{CYRILLIC_SMALL}]+|[{CYRILLIC_CAPITAL}]+",
    signs="№",
    sure=f"[{CYRILLIC_SMALL}]{{2}}",
)
_JAPANESE = _Script(
    letters=f"{KANA}\u4e00-\u9fff",
    word=f"[{KANA}\u4e00-\u9fff]+",
    signs="\u3000-\u303f\uff01-\uff5e\u30fb",
    sure=f"[{KANA}]{{2}}",
)
_SCRIPTS = {"cp932": _JAPANESE, "cp866": _CYRILLIC, "cp850": _WESTERN, "cp1252": _WESTERN}
WINDOWS = ("cp932", "cp1252")
"""In which its programs write text; those first for which others are easily taken."""
DOS = ("cp932", "cp866", "cp850")
"""In which it writes names in a zip."""


def page_of(body: bytes, pages: Sequence[str]) -> str | None:
    """The first of these in which the bytes are words; None where they are in none."""
    return next((page for page in pages if _is_in(body, page)), None)


def _is_in(body: bytes, page: str) -> bool:
    try:
        text = body.decode(page)
    except UnicodeDecodeError:
        return False
    script = _SCRIPTS[page]
    words = re.compile(f"[A-Za-z{script.letters}]+")
    return (
        bool(re.search(script.sure, text))
        and not re.search(rf"[^\x00-\x7f{script.signs}]", words.sub("", text))
        and all(word.isascii() or re.fullmatch(script.word, word) for word in words.findall(text))
    )
