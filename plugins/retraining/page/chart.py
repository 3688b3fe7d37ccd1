"""The chart over the weeks: each candidate's accuracy, and how accurate what served was. Pure: coordinates of SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

WIDTH, HEIGHT = 1100, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 40
"""Room at the edges: for the scale, and for dates."""
FLAT = 0.005
"""Half of what a scale shows at least: an accuracy that never moves is a line, and no mountain."""
DATES = 6


def chart(lines: Sequence[Mapping[str, Any]], champion: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Of lines the newest first, as `read_weeks` tells them; None below two runs with an accuracy.

    `champion` is champion.json, where there is one: of a rollback after the last run only it tells.
    """
    weeks = list(reversed(lines))
    values = [value for week in weeks for value in (week["accuracy"], week["was"]) if value is not None]
    if sum(week["accuracy"] is not None for week in weeks) < 2:
        return None
    ticks = scale(min(values), max(values))
    step = (WIDTH - LEFT - RIGHT) / (len(weeks) - 1)

    def x(place: int) -> float:
        return round(LEFT + place * step, 1)

    def y(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - share), 1)

    floor = HEIGHT - BOTTOM
    dots = [
        {"x": x(place), "y": floor if week["accuracy"] is None else y(week["accuracy"]), **week}
        for place, week in enumerate(weeks)
    ]
    shown = sorted({round(place * (len(weeks) - 1) / (DATES - 1)) for place in range(DATES)})
    return {
        "dots": dots,
        "serves": _steps([(x(place), y(level)) for place, level in served(weeks, champion)]),
        "ticks": [{"value": tick, "y": y(tick)} for tick in ticks],
        "dates": [{"x": x(place), "at": weeks[place]["record"].run_after} for place in shown],
        "digits": max(2, -math.floor(math.log10(ticks[1] - ticks[0]))),
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "floor": floor,
    }


def scale(low: float, high: float, most: float = 1.0) -> list[float]:
    """Three to seven round numbers from below `low` to above `high`; both lie between 0 and `most`."""
    if high - low < 2 * FLAT:
        middle = (low + high) / 2
        low, high = max(0.0, middle - FLAT), min(most, middle + FLAT)
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 10) for place in range(first, last + 1)]


def served(weeks: Sequence[Mapping[str, Any]], champion: Mapping[str, Any] | None) -> list[tuple[int, float]]:
    """(place, accuracy) of what served after each run, the oldest first, where that is known.

    Each comparison measures anew what serves, so that the one after a rollback shows what was gone back to.
    """
    known: list[tuple[int, float]] = []
    for place, week in enumerate(weeks):
        level = week["accuracy"] if week["outcome"] == "promoted" else week["was"]
        if level is not None:
            known.append((place, level))
        elif known:
            known.append((place, known[-1][1]))
    back = str(((champion or {}).get("rolled_back") or {}).get("at", ""))
    now = next((week["accuracy"] for week in weeks if champion and week["run_name"] == champion["run_name"]), None)
    if now is not None and back > weeks[-1]["record"].run_after.astimezone(UTC).isoformat():  # both in UTC
        known.append((len(weeks) - 1, now))
    return known


def _steps(points: Sequence[tuple[float, float]]) -> str:
    """As the points of a polyline: what serves stays as it is until something else does."""
    path: list[tuple[float, float]] = []
    for point in points:
        if path and path[-1][1] != point[1]:
            path.append((point[0], path[-1][1]))
        path.append(point)
    return " ".join(f"{x},{y}" for x, y in path)
