"""The test images that were won, lost, and stayed wrong: what a person looks at before any number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from retraining.page.documents import Documents
from retraining.page.panels.panel import Panel

KINDS = (
    ("won", "Now right", "that the champion got wrong"),
    ("lost", "Now wrong", "that the champion got right"),
    ("wrong", "Wrong as before", "the greatest changes first"),
)
A_PICTURE = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/]+=*")


def view(run: Documents) -> Mapping[str, Any] | None:
    if not run.album:
        return None
    compared = bool((run.evaluation or {}).get("champion"))
    groups = []
    for kind, title, note in KINDS:
        found = run.album.get(kind) or {}
        if compared or kind == "wrong":
            if not compared:
                title, note = "Wrong", "the surest mistakes first"
            cards = [card(line) for line in found.get("images", ())]
            groups.append({"title": title, "note": note, "count": found.get("count", 0), "cards": cards})
    return {"groups": groups, "compared": compared}


def card(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line whose picture is one, or empty."""
    picture = str(line.get("picture") or "")
    return dict(line) | {"picture": picture if A_PICTURE.fullmatch(picture) else ""}


PANEL = Panel(
    key="images",
    title="Images",
    note="test images, what each model took them for, and how sure it was of the right class",
    tasks=("score_candidate", "score_champion"),
    promise="The images that were won and lost, once candidate and champion are compared.",
    view=view,
)
