"""A confusion matrix for people: which classes stand beside which, and how dark a cell is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TABLE = 20
"""Classes to which a matrix is a table of numbers; above it, a heat map."""
MAP = 400
"""Classes to which it is drawn at all: each of more would be thinner than a line."""
CELLS = 6000
"""Of a heat map, those with most images first."""
SHARES = (0.02, 0.05, 0.10, 0.25)
"""From which share of a class's images on a cell is darker: levels 1 to 5."""
ROW, LABELS, WIDE = 13, 210, 850
"""Of a heat map, in its units: the height of a row, and the room for names and for cells."""


def level(count: int, of: int) -> int:
    """0 for none."""
    return 1 + sum(count / of >= share for share in SHARES) if count and of else 0


def order(confusion: Sequence[Sequence[int]]) -> list[int]:
    """Positions of classes so that those which are taken for each other stand side by side.

    A chain: to each class the one that is left and most often confused with it; where none is, the one with most
    mistakes begins anew. O(n²).
    """
    n = len(confusion)
    wrong = [sum(row) - row[at] for at, row in enumerate(confusion)]
    left, chain = set(range(n)), list[int]()
    while left:
        near = max(left, key=lambda at: (_between(confusion, chain, at), wrong[at], -at))
        left.remove(near)
        chain.append(near)
    return chain


def _between(confusion: Sequence[Sequence[int]], chain: Sequence[int], at: int) -> int:
    """How often the last class of the chain and this one are taken for each other."""
    return confusion[chain[-1]][at] + confusion[at][chain[-1]] if chain else 0


def table(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """A row for each class, in the dataset's order."""
    return [
        {
            "label": label,
            "of": sum(row),
            "cells": [
                {"count": count, "level": "right" if at == place else level(count, sum(row))}
                for at, count in enumerate(row)
            ],
        }
        for place, (label, row) in enumerate(zip(classes, confusion, strict=True))
    ]


def heat_map(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> Mapping[str, Any]:
    """Coordinates of its cells, which are only those that hold an image."""
    places = {at: place for place, at in enumerate(order(confusion))}
    size = max(1.0, min(float(ROW), WIDE / len(classes)))
    cells = [
        (count, truth, answer)
        for truth, row in enumerate(confusion)
        for answer, count in enumerate(row)
        if count and truth != answer
    ]
    shown = sorted(cells, key=lambda cell: -cell[0])[:CELLS]
    of = [sum(row) for row in confusion]
    rows: dict[int, list[dict[str, Any]]] = {at: [] for at in places}
    for count, truth, answer in shown:
        x = round(LABELS + places[answer] * size, 1)
        rows[truth].append({"x": x, "count": count, "level": level(count, of[truth]), "answer": classes[answer]})
    return {
        "rows": [
            {
                "at": at,
                "label": classes[at],
                "y": place * ROW,
                "right": round(LABELS + place * size, 1),
                "cells": rows[at],
            }
            for at, place in places.items()
        ],
        "size": round(size, 2),
        "row": ROW,
        "labels": LABELS,
        "width": round(LABELS + size * len(classes), 1),
        "height": ROW * len(classes),
        "left_out": len(cells) - len(shown),
    }


def mistakes(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Each class with a mistake, those with most first: what its images were taken for, most often first."""
    found = [
        {
            "at": at,
            "label": classes[at],
            "of": sum(row),
            "wrong": sum(row) - row[at],
            "answers": [
                (classes[other], -count)
                for count, other in sorted((-count, other) for other, count in enumerate(row) if count and other != at)
            ],
        }
        for at, row in enumerate(confusion)
    ]
    return sorted((one for one in found if one["wrong"]), key=lambda one: (-one["wrong"], one["at"]))
