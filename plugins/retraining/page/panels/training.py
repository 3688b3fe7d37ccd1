"""Did it learn? Loss and accuracy of every epoch of the training that made the candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retraining.page.chart import scale
from retraining.page.documents import Documents
from retraining.page.panels.panel import Panel

WIDTH, HEIGHT = 540, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 84, 12, 30
"""Room at the edges: for the scale, and for the names of the curves."""
CHARTS = (
    ("Loss", ("train:loss", "validation:loss"), float("inf")),
    ("Accuracy", ("train:accuracy", "validation:accuracy"), 1.0),
)
COLUMNS = ("train:loss", "validation:loss", "train:accuracy", "validation:accuracy", "validation:macro_f1")


def view(run: Documents) -> Mapping[str, Any] | None:
    told = run.training
    if not told:
        return None
    numbers, metrics = told["numbers"], told["metrics"]
    columns = [name for name in COLUMNS if name in metrics]
    rows = [
        {"number": number, "values": [metrics[name][place] for name in columns]} for place, number in enumerate(numbers)
    ]
    charts = [chart for title, names, most in CHARTS if (chart := _chart(title, names, most, told))]
    best = next((row for row in rows if row["number"] == told["best"]), None)
    return {
        "charts": charts,
        "columns": [name.replace(":", " ").replace("_", " ") for name in columns],
        "rows": rows,
        "best": best and dict(zip(columns, best["values"], strict=True)),
        "told": told,
        "goes_on": run.record.goes_on and told["best"] is None,
    }


def _chart(title: str, names: Sequence[str], most: float, told: Mapping[str, Any]) -> dict[str, Any] | None:
    """Coordinates of one chart's curves; None where nothing of it was told."""
    series = {name: told["metrics"][name] for name in names if name in told["metrics"]}
    values = [value for found in series.values() for value in found if value is not None]
    if not values:
        return None
    ticks = scale(min(values), max(values), most)
    numbers: list[int] = told["numbers"]
    last: int = max(numbers[-1], told["of"], numbers[0] + 1)

    def x(number: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (number - numbers[0]) / (last - numbers[0]), 1)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - ticks[0]) / (ticks[-1] - ticks[0])), 1)

    curves = []
    for name, found in series.items():
        points = [(x(n), y(v)) for n, v in zip(numbers, found, strict=True) if v is not None]
        curves.append({"name": name.partition(":")[0], "points": points})
    _apart(curves)
    return {
        "title": title,
        "curves": [curve for curve in curves if curve["points"]],
        "ticks": [{"value": tick, "y": y(tick)} for tick in ticks],
        "first": {"x": x(numbers[0]), "number": numbers[0]},
        "last": {"x": x(last), "number": last},
        "best": x(told["best"]) if told["best"] in numbers else None,
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "floor": HEIGHT - BOTTOM,
    }


def _apart(curves: list[dict[str, Any]]) -> None:
    """Where the names of the curves stand: beside their ends, and not on each other."""
    taken: list[float] = []
    for curve in sorted((c for c in curves if c["points"]), key=lambda curve: float(curve["points"][-1][1])):
        place = max(curve["points"][-1][1], taken[-1] + 15 if taken else 0)
        taken.append(place)
        curve["label"] = place


PANEL = Panel(
    key="training",
    title="Training",
    note="every epoch of the training that made the candidate",
    tasks=("train",),
    promise="Loss and accuracy of every epoch, from the first one on.",
    view=view,
)
