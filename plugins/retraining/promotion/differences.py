"""Where two models differ, for people: the classes that changed most, the confusions, the single images."""

from __future__ import annotations

from typing import Any

from retraining.promotion.parts import compared
from retraining.promotion.scores import Evaluation

SHOWN = 5
NAMED_IMAGES = 20


def changed_classes(candidate: Evaluation, champion: Evaluation) -> list[dict[str, Any]]:
    """The classes of which the candidate recognises the most images more, or fewer, with the recall of both."""
    changes = [
        (candidate.confusion[index][index] - champion.confusion[index][index], label)
        for index, label in enumerate(candidate.classes)
    ]
    largest = sorted((change for change in changes if change[0]), key=lambda change: (-abs(change[0]), change[1]))
    return [
        {
            "class": label,
            "n": candidate.per_class[label]["n"],
            "images": images,
            "candidate": candidate.per_class[label]["recall"],
            "champion": champion.per_class[label]["recall"],
        }
        for images, label in largest[:SHOWN]
    ]


def confused_pairs(candidate: Evaluation, champion: Evaluation | None) -> list[dict[str, Any]]:
    """What the candidate takes for what most often, and how often the champion did."""
    pairs = [
        (count, truth, answer)
        for truth, row in enumerate(candidate.confusion)
        for answer, count in enumerate(row)
        if count and truth != answer
    ]
    most = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:SHOWN]
    return [
        {
            "class": candidate.classes[truth],
            "taken_for": candidate.classes[answer],
            "candidate": count,
            "champion": champion.confusion[truth][answer] if champion else None,
        }
        for count, truth, answer in most
    ]


def changed_images(candidate: Evaluation, champion: Evaluation) -> dict[str, list[str]]:
    """The first images that only one of the two got right: "won" by the candidate, "lost" by it."""
    images = list(compared(candidate, champion))
    won = [image.name for image in images if image.right > image.known]
    lost = [image.name for image in images if image.right < image.known]
    return {"won": won[:NAMED_IMAGES], "lost": lost[:NAMED_IMAGES]}
