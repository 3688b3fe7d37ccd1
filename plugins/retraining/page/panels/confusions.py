"""What is taken for what: the pairs that happen most, and how often the champion did; and all of it as a matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retraining.page import matrix
from retraining.page.documents import Documents
from retraining.page.panels.panel import Panel

SHOWN = 15


def view(run: Documents) -> Mapping[str, Any] | None:
    candidate = (run.evaluation or {}).get("candidate")
    if not candidate:
        return None
    theirs = (run.evaluation or {}).get("champion") or {}
    champion = theirs.get("confusion") if theirs.get("classes") == candidate["classes"] else None
    pairs = _pairs(candidate["classes"], candidate["confusion"], champion)
    classes, confusion = candidate["classes"], candidate["confusion"]
    return {
        "pairs": pairs[:SHOWN],
        "more": max(0, len(pairs) - SHOWN),
        "compared": champion is not None,
        "classes": classes,
        "table": matrix.table(classes, confusion) if len(classes) <= matrix.TABLE else None,
        "map": matrix.heat_map(classes, confusion) if matrix.TABLE < len(classes) <= matrix.MAP and pairs else None,
        "mistakes": matrix.mistakes(classes, confusion) if len(classes) > matrix.TABLE else (),
    }


def _pairs(
    classes: Sequence[str], confusion: Sequence[Sequence[int]], champion: Sequence[Sequence[int]] | None
) -> list[dict[str, Any]]:
    found = [
        {
            "truth": classes[row],
            "answer": classes[column],
            "count": count,
            "of": sum(counts),
            "was": champion[row][column] if champion else None,
        }
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    return sorted(found, key=lambda pair: (-pair["count"], pair["truth"], pair["answer"]))


PANEL = Panel(
    key="confusions",
    title="Taken for",
    note="the mistakes made most often, and all of them",
    tasks=(),
    promise="Which class is taken for which, once the test images are scored.",
    view=view,
)
