"""Trials of a search as lines over parallel axes: a hyperparameter each, the objective last. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retraining.page.figures import number

WIDTH, HEIGHT = 1100, 280
LEFT, RIGHT, TOP, BOTTOM = 60, 70, 40, 26
"""Room at the edges: for names above the axes, and for values beside them."""
AXES = 8
"""Hyperparameters at most, those first that differ among trials."""
LOGARITHMIC = 30
"""From this ratio of the largest to the smallest on, an axis is logarithmic."""
OBJECTIVE = "objective"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One hyperparameter: where its values stand, 0 at the floor and 1 at the top."""

    name: str
    places: Mapping[str, float]
    low: str
    high: str
    kind: str
    """"linear", "logarithmic", or "choice" where a value is none of a number."""


def parallel(
    own: Sequence[Mapping[str, Any]], inherited: Sequence[Mapping[str, Any]], best: str
) -> dict[str, Any] | None:
    """Lines and axes; None where there are not two trials and something that differs among them."""
    trials = [*inherited, *own]
    axes = _axes(trials)
    if len(trials) < 2 or len(axes) < 2:
        return None
    step = (WIDTH - LEFT - RIGHT) / (len(axes) - 1)
    columns = [(axis, round(LEFT + place * step, 1)) for place, axis in enumerate(axes)]
    lines = [_line(trial, columns, "inherited") for trial in inherited]
    lines += [_line(trial, columns, "best" if trial["name"] == best else "own") for trial in own]
    lines.sort(key=lambda line: ("inherited", "own", "best").index(line["kind"]))  # what counts most is drawn last
    return {
        "axes": [
            {"x": x, "name": axis.name, "low": axis.low, "high": axis.high, "kind": axis.kind} for axis, x in columns
        ],
        "lines": [line for line in lines if line["points"]],
        "inherited": len(inherited),
        "width": WIDTH,
        "height": HEIGHT,
        "top": TOP,
        "floor": HEIGHT - BOTTOM,
    }


def _axes(trials: Sequence[Mapping[str, Any]]) -> list[Axis]:
    names = sorted({name for trial in trials for name in trial["hyperparameters"]})
    found = [axis for name in names if (axis := _axis(name, [_value(trial, name) for trial in trials]))]
    objective = _axis(OBJECTIVE, [_value(trial, OBJECTIVE) for trial in trials])
    return [*found[:AXES], *([objective] if objective else [])]


def _value(trial: Mapping[str, Any], name: str) -> str | None:
    if name == OBJECTIVE:
        value = number(trial.get("objective"))
        return None if value is None else f"{value:.6g}"
    value = trial["hyperparameters"].get(name)
    return None if value is None else str(value)


def _axis(name: str, values: Sequence[str | None]) -> Axis | None:
    """None where all trials have the same."""
    known = sorted({value for value in values if value is not None})
    if len(known) < 2:
        return None
    numbers = {value: told for value in known if (told := _number(value)) is not None}
    if len(numbers) < len(known):
        places = {value: place / (len(known) - 1) for place, value in enumerate(known)}
        return Axis(name=name, places=places, low=known[0], high=known[-1], kind="choice")
    low, high = min(numbers, key=numbers.__getitem__), max(numbers, key=numbers.__getitem__)
    if numbers[low] == numbers[high]:  # 1 and 1.0
        return None
    is_log = numbers[low] > 0 and numbers[high] / numbers[low] >= LOGARITHMIC
    scaled = {value: math.log(told) if is_log else told for value, told in numbers.items()}
    places = {value: (told - scaled[low]) / (scaled[high] - scaled[low]) for value, told in scaled.items()}
    return Axis(name=name, places=places, low=low, high=high, kind="logarithmic" if is_log else "linear")


def _number(text: str) -> float | None:
    try:
        return number(float(text))
    except ValueError:
        return None


def _line(trial: Mapping[str, Any], columns: Sequence[tuple[Axis, float]], kind: str) -> dict[str, Any]:
    """Of a trial that lacks a value the line goes on at the next axis."""
    points = [
        (x, round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - axis.places[value]), 1))
        for axis, x in columns
        if (value := _value(trial, axis.name)) is not None
    ]
    return {"name": trial["name"], "objective": number(trial.get("objective")), "kind": kind, "points": points}
