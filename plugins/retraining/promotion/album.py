"""The test images that tell two models apart, for people: won, lost, and wrong as before, each with a small picture.

And some of all of them, whatever was answered: those that a page offers to try an endpoint with.
"""

from __future__ import annotations

import base64
import io
import logging
import math
from collections.abc import Callable
from itertools import islice, zip_longest
from typing import Any

from retraining.dataset.pictures.orientation import upright
from retraining.dataset.pictures.thumb import on_white
from retraining.promotion.scores import Evaluation

log = logging.getLogger(__name__)

SHOWN = 24
"""Of each kind; how many there are is told."""
SIDE = 128
"""Of a small picture, in pixels."""
MAX_READ_BYTES = 64 * 2**20
"""Of all images together: what it may cost to show them."""


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


class Thumbnails:
    """Small pictures as `data:` addresses; None for an image that cannot be had, and when enough was read."""

    def __init__(self, read: Callable[[str, int], bytes | None]) -> None:
        """`read(name, most)`: an image's bytes, None where it has more than `most`."""
        self._read, self._left = read, MAX_READ_BYTES

    def __call__(self, name: str) -> str | None:
        try:
            body = self._read(name, self._left)
            if body is None:
                return None
            self._left -= len(body)
            picture = small(body)
        except Exception as error:  # whatever a decoder or the store says: the name alone is shown then
            log.warning("%s has no small picture: %s: %s", name, type(error).__name__, error)
            return None
        return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"


def small(body: bytes) -> bytes:
    """A JPEG of 128 pixels at most, upright, of an image that sync has let through."""
    made = io.BytesIO()
    on_white(small_picture(body, SIDE)).save(made, "JPEG", quality=85)
    return made.getvalue()


def small_picture(body: bytes, side: int) -> Any:
    """A Pillow image in RGBA, upright, of `side` pixels at most, of an image that sync has let through."""
    from PIL import Image

    with Image.open(io.BytesIO(body), formats=("JPEG", "PNG")) as image:
        image.draft("RGB", (2 * side, 2 * side))  # a camera's JPEG is decoded at an eighth of its size
        image.load()  # of a PNG also what stands behind its pixels
        picture = eight_bits(upright(image))
        if picture.mode not in ("L", "RGB") or "transparency" in image.info:
            picture = picture.convert("RGBA")  # before it is made smaller: a palette's numbers have no middle
        picture.thumbnail((side, side))
        return picture.convert("RGBA")


def eight_bits(image: Any) -> Any:
    """Scaled as the network sees it; Pillow's own conversion of 16 bits is white nearly everywhere."""
    import numpy as np
    from PIL import Image

    return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)) if image.mode.startswith("I") else image


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
