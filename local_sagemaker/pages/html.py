"""HTML that cannot be anything but what the code says: whatever is not Html already is escaped."""

from __future__ import annotations

from html import escape


class Html(str):
    """Text that is HTML; made by `tag` and `join`, and never out of data."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Html:
    """An element. `class_` is class, `data_x` is data-x; plain text in it, and all attributes, are escaped."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{_text(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{join(*children)}</{name}>")


def join(*parts: str) -> Html:
    return Html("".join(part if isinstance(part, Html) else _text(part, quote=False) for part in parts))


def _text(text: str, *, quote: bool = True) -> str:
    """Escaped, with a sign in place of each control character: HTML has none, and a terminal would obey them."""
    return escape(text.translate(_CONTROLS), quote=quote)


# ESC becomes ␛. Tabs and line ends stay.
_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if code not in (9, 10, 13)} | {0x7F: "\u2421"}
