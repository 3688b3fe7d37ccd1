"""What a panel is: a question that people ask of a run, and what answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from retraining.page.documents import Documents


@dataclass(frozen=True, kw_only=True)
class Panel:
    """`<key>.html` in templates/ shows what `view` found; None where there is nothing to show yet."""

    key: str
    title: str
    note: str
    tasks: tuple[str, ...]
    """That make it: the tab of one of them opens here."""
    promise: str
    """What will be here."""
    view: Callable[[Documents], Mapping[str, Any] | None]
