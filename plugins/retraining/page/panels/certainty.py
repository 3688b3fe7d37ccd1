"""Can I trust 0.9? How sure the models are beside how often they are right, and what a threshold would answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retraining.page.documents import Documents
from retraining.page.figures import percent, score, wilson
from retraining.page.panels.panel import Panel

WIDTH, HEIGHT = 540, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 12, 44
STOCK = 44
"""Height of the bars that tell how many images a bin has, at most."""
ASKED = 0.9
"""The threshold that is shown first."""
FEW = 10
"""Below this many images a bin's share tells next to nothing, and it is drawn faint."""
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
TABLE = (0.0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)


def view(run: Documents) -> Mapping[str, Any] | None:
    ours = (run.evaluation or {}).get("candidate") or {}
    theirs = (run.evaluation or {}).get("champion") or {}
    if not ours.get("certainty"):
        return None
    rows = _rows(ours["certainty"]["thresholds"], (theirs.get("certainty") or {}).get("thresholds"))
    asked = next((place for place, row in enumerate(rows) if row["threshold"] == ASKED), 0)
    return {
        "error": ours["calibration_error"],
        "was": theirs.get("calibration_error"),
        "words": _in_words(ours["certainty"]["bins"]),
        "marks": _marks(ours["certainty"]["bins"]),
        "champions": _marks((theirs.get("certainty") or {}).get("bins") or ()),
        "compared": bool(theirs.get("certainty")),
        "ticks": [{"value": tick, "x": x_of(tick), "y": y_of(tick)} for tick in TICKS],
        "rows": rows,
        "asked": asked,
        "places": [x_of(row["threshold"]) for row in rows],
        "sentences": [_sentence(row) for row in rows],
        "table": [row for row in rows if row["threshold"] in TABLE],
        "curves": {
            "answered": _points(rows, "answered"),
            "right": _points([row for row in rows if row["count"]], "right"),
        },
        "ends": {name: y_of(rows[0][name]) for name in ("answered", "right")},
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "edge": WIDTH - RIGHT,
        "top": TOP,
        "floor": HEIGHT - BOTTOM,
    }


def x_of(share: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * share, 1)


def y_of(share: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - share), 1)


def _in_words(bins: Sequence[Sequence[float]]) -> str:
    """Whether the model is too sure of itself, as far as so many images can tell."""
    n = sum(count for count, _, _ in bins)
    said = sum(count * sure for count, sure, _ in bins) / n
    right = sum(good for _, _, good in bins)
    low, high = wilson(int(right), int(n))
    told = f"on the average it says {score(said)}, and is right in {score(right / n)}"
    if low <= said <= high:
        return f"As sure as it is right, as far as {n:,} images tell: {told}."
    return f"{'Too sure of itself' if said > high else 'Not as sure of itself as it may be'}: {told}."


def _marks(bins: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """A mark for each bin that has images: where it is, its interval, and how many it stands for."""
    most = max((count for count, _, _ in bins), default=0) or 1
    marks = []
    for place, (count, sure, good) in enumerate(bins):
        if not count:
            continue
        low, high = wilson(int(good), int(count))
        left, right = x_of(place / len(bins)), x_of((place + 1) / len(bins))
        marks.append(
            {
                "x": x_of(sure),
                "y": y_of(good / count),
                "low": y_of(low),
                "high": y_of(high),
                "few": count < FEW,
                "count": int(count),
                "sure": sure,
                "right": good / count,
                "bar": {"x": left + 1, "width": round(right - left - 2, 1), "height": round(STOCK * count / most, 1)},
            }
        )
    return marks


def _rows(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]] | None) -> list[dict[str, Any]]:
    """What each threshold would answer, and how much of that rightly; `was` of the champion."""
    was = {threshold: (count, good) for threshold, count, good in theirs or ()}
    n, all_theirs = int(ours[0][1]), int(theirs[0][1]) if theirs else 0
    rows = []
    for threshold, count, good in ours:
        low, high = wilson(int(good), int(count))
        answered, right = was.get(threshold, (0, 0))
        rows.append(
            {
                "threshold": threshold,
                "count": int(count),
                "n": n,
                "answered": count / n,
                "right": good / count if count else None,
                "low": low,
                "high": high,
                "was_answered": answered / all_theirs if all_theirs else None,
                "was_right": right / answered if answered else None,
            }
        )
    return rows


def _sentence(row: Mapping[str, Any]) -> str:
    said = f"Answers that are at least {row['threshold']:g} sure: "
    if row["right"] is None:
        ours = f"none of {row['n']:,} images."
    else:
        ours = (
            f"{row['count']:,} of {row['n']:,} images ({percent(row['answered'])}), {percent(row['right'])} of them "
            f"right (95 % interval: {percent(row['low'])} to {percent(row['high'])})."
        )
    if row["was_answered"] is None:
        return said + ours
    right = "" if row["was_right"] is None else f", {percent(row['was_right'])} of them right"
    return f"{said}{ours} The champion: {percent(row['was_answered'])}{right}."


def _points(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(x_of(row["threshold"]), y_of(row[name])) for row in rows]


PANEL = Panel(
    key="certainty",
    title="Certainty",
    note="how sure the model is beside how often it is right, and what a threshold would answer",
    tasks=(),
    promise="Whether a score of 0.9 means nine of ten right, and what is answered from a score on, once it is scored.",
    view=view,
)
