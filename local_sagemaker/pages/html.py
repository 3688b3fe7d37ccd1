"""HTML that cannot be anything but what the code says: whatever is not Html already is escaped."""

from __future__ import annotations

from html import escape


class Html(str):
    """Text that is HTML; made by `tag` and `join`, and never out of data."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Html:
    """An element. `class_` is class, `data_x` is data-x; plain text in it, and all attributes, are escaped."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{join(*children)}</{name}>")


def join(*parts: str) -> Html:
    return Html("".join(part if isinstance(part, Html) else escape(part, quote=False) for part in parts))
