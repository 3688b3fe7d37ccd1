"""What a Debugger rule judged, drawn: its series, its threshold, the step where it fired. Pure: coordinates of SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retraining.page.figures import number

WIDTH, HEIGHT = 540, 170
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 26
"""Room at the edges: for the scale, and for steps."""
SPREAD = 200
"""Values that differ by more than so many times are drawn by their powers of ten."""
MOST_TICKS = 5


def evidence(series: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Of a series as `debugger.series` tells it; None where nothing in it can be drawn."""
    if not series:
        return None
    told = [(number(step), number(value)) for step, value in zip(series["steps"], series["values"], strict=False)]
    points = [(step, value) for step, value in told if step is not None]
    values = [value for _, value in points if value is not None]
    threshold = number(series.get("threshold"))
    shown = [*values, *([] if threshold is None else [threshold])]
    if not values or not math.isfinite(max(shown) - min(shown)):
        return None
    ticks, share = _axis(shown)
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)

    def x(step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / (last - first), 1)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - share(value)), 1)

    fired, its_value = points[-1]
    return {
        "what": str(series.get("what") or "value"),
        "tensor": str(series.get("tensor") or ""),
        "lines": [[(x(step), y(value)) for step, value in line] for line in _lines(points)],
        "ticks": [{"value": tick, "y": y(tick)} for tick in ticks],
        "limit": None if threshold is None else {"value": threshold, "y": y(threshold)},
        "fired": {"x": x(fired), "y": None if its_value is None else y(its_value), "value": its_value},
        "step": series.get("step"),
        "begins": values[0],
        "first": {"x": x(first), "step": first},
        "last": {"x": x(last), "step": last},
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "floor": HEIGHT - BOTTOM,
    }  # fmt: skip


def _lines(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """Without what is no number, and not drawn across it."""
    lines: list[list[tuple[float, float]]] = [[]]
    for step, value in points:
        if value is None:
            lines.append([])
        else:
            lines[-1].append((step, value))
    return [line for line in lines if line]


def _axis(values: Sequence[float]) -> tuple[list[float], Callable[[float], float]]:
    """Its ticks, and a function that gives the share of its height at which a value stands."""
    low, high = min(values), max(values)
    if low > 0 and high / low > SPREAD:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        apart = max(1, math.ceil((last - first) / (MOST_TICKS - 1)))
        ticks = [10.0**power for power in range(first, last + 1, apart)]
        return ticks, lambda value: (math.log10(value) - first) / (last - first)
    room = high - low or abs(high) / 10 or 1.0
    low, high = (low, high) if high > low else (low - room / 2, high + room / 2)
    rough = (high - low) / (MOST_TICKS - 1)
    size = 10.0 ** math.floor(math.log10(rough))
    every = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * (1 - 1e-9))
    places = range(math.floor(low / every + 1e-9), math.ceil(high / every - 1e-9) + 1)
    ticks = [float(f"{place * every:.6g}") for place in places]
    return ticks, lambda value: (value - ticks[0]) / (ticks[-1] - ticks[0])
