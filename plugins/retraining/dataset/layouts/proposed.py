"""The line for the recipe that a refusal of a source proposes. Pure."""

from __future__ import annotations

import re

PLAIN = re.compile(r"[^\W\d][\w ./()+-]*[\w)/+]|[^\W\d]|\.|<[\w ]+>|[\w-]+\.[a-z]{3,5}")
SPOKEN = {"yes", "no", "on", "off", "true", "false", "null", "y", "n", "none"}


def line(**keys: str) -> str:
    """A sentence's beginning."""
    return f"Put into the recipe {layout(**keys)}"


def layout(**keys: str) -> str:
    """The line alone, which YAML reads as it is meant whatever is in the names."""
    return "`layout: {" + ", ".join(f"{key}: {_scalar(value)}" for key, value in keys.items()) + "}`"


def joined(at: tuple[str, ...], *name: str) -> str:
    """The folder at a path, as a layout names it."""
    return "/".join((*at, *name)) or "."


def _scalar(value: str) -> str:
    if PLAIN.fullmatch(value) and value.lower() not in SPOKEN:
        return value
    return "'" + value.replace("'", "''") + "'"
