"""The test images that tell two models apart, for people: won, lost, and wrong as before, each with a small picture.

And some of all of them, whatever was answered: those that a page offers to try an endpoint with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice, zip_longest
from typing import Any

from retraining.promotion.scores import Evaluation

SHOWN = 24
"""Of each kind; how many there are is told."""


def album(
    candidate: Evaluation, champion: Evaluation | None, thumbnail: Callable[[str], str | None]
) -> dict[str, dict[str, Any]]:
    """ "won", "lost", "wrong" and "some" → {"count", "images"}; those first of which a model changed its mind most.

    An image is {"image", "class", "answer", "sure", "was", "was_sure", "picture"}: both answers, and both models'
    probabilities of the right class. Without a champion all that is wrong is "wrong", the surest mistakes first.
    """
    kinds: dict[str, list[dict[str, Any]]] = {"won": [], "lost": [], "wrong": []}
    lines = _lines(candidate, champion)
    for line in lines:
        right, known = line["answer"] == line["class"], line["was"] == line["class"]
        if champion and right != known:
            kinds["won" if right else "lost"].append(line)
        elif not right:
            kinds["wrong"].append(line)
    found = {kind: {"count": len(its), "images": _shown(its, thumbnail)} for kind, its in kinds.items()}
    some = [line | {"picture": thumbnail(line["image"])} for line in _some(lines)]
    return found | {"some": {"count": len(lines), "images": some}}


def _lines(candidate: Evaluation, champion: Evaluation | None) -> list[dict[str, Any]]:
    ours, theirs = candidate.outcomes, (champion or candidate).outcomes
    # An answer of a class that only one of the two knows has no name here.
    names = [*candidate.classes, "another class"]
    rows = zip(ours.names, ours.truths, ours.answered, ours.losses, theirs.answered, theirs.losses, strict=True)
    return [
        {
            "image": name,
            "class": names[truth],
            "answer": names[answer],
            "sure": round(math.exp(-loss), 4),
            "was": names[was] if champion else None,
            "was_sure": round(math.exp(-was_loss), 4) if champion else None,
        }
        for name, truth, answer, loss, was, was_loss in rows
    ]


def _shown(lines: list[dict[str, Any]], thumbnail: Callable[[str], str | None]) -> list[dict[str, Any]]:
    def weight(line: dict[str, Any]) -> float:
        return float(line["sure"]) if line["was_sure"] is None else -abs(float(line["sure"] - line["was_sure"]))

    first = sorted(lines, key=lambda line: (weight(line), line["image"]))[:SHOWN]
    return [line | {"picture": thumbnail(line["image"])} for line in first]


def _some(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """SHOWN of them, one class after the other; of each class those whose names, which are digests, come first."""
    by_class: dict[str, list[dict[str, Any]]] = {}
    for line in sorted(lines, key=lambda line: str(line["image"]).rpartition("/")[2]):
        by_class.setdefault(line["class"], []).append(line)
    rounds = zip_longest(*(by_class[label] for label in sorted(by_class)))
    return list(islice((line for each in rounds for line in each if line), SHOWN))
