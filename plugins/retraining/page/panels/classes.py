"""Which class regressed? All classes, those that lost most first, with the recall of both models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.page.documents import Documents
from retraining.page.figures import wilson
from retraining.page.panels.panel import Panel

FEW = 10
"""Below this many test images a recall tells next to nothing."""


def view(run: Documents) -> Mapping[str, Any] | None:
    candidate = (run.evaluation or {}).get("candidate")
    if not candidate:
        return None
    champion = ((run.evaluation or {}).get("champion") or {}).get("per_class") or {}
    rows = [_row(label, scores, champion.get(label)) for label, scores in candidate["per_class"].items()]
    return {"rows": sorted(rows, key=lambda row: (row["change"], row["recall"])), "compared": bool(champion)}


def _row(label: str, ours: Mapping[str, Any], theirs: Mapping[str, Any] | None) -> dict[str, Any]:
    n = int(ours["n"])
    right = round(ours["recall"] * n)
    low, high = wilson(right, n)
    return {
        "label": label,
        "n": n,
        "recall": ours["recall"],
        "was": theirs["recall"] if theirs else None,
        "change": right - round(theirs["recall"] * n) if theirs else 0,
        "low": low,
        "high": high,
        "few": n < FEW,
    }


PANEL = Panel(
    key="classes",
    title="Classes",
    note="what was lost first; the bar is the recall with its 95 % interval, the tick the champion's",
    tasks=("score_candidate", "score_champion", "create_model"),
    promise="The recall of every class for candidate and champion, once both have answered the test images.",
    view=view,
)
