"""Parts of the test set, each class and each slice of the recipe: in which of them is the candidate clearly worse?

An average hides a class that was lost. In each part the one-sided exact form of McNemar's test counts the images that
only one of the two models got right: p is how often, of models that are equally good there, the candidate would lose as
many or more (McNemar, Psychometrika 12, 1947). Over all parts Holm's procedure (Scandinavian Journal of Statistics 6,
1979) holds the chance that an equally good candidate is called worse anywhere to `alpha`. A part in which so few images
differ that even all of them lost would be no evidence cannot err, and so is not counted (Tarone, Biometrics 46, 1990):
many small classes do not hide a large one.

What it can find: five images lost and none won are p = 0.031, so a class needs at least five images that the champion
gets right, and among many suspicious classes more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from retraining.promotion.evidence import tail
from retraining.promotion.scores import Evaluation
from retraining.recipe.slices import Slice, Traits


@dataclass(frozen=True, kw_only=True)
class Part:
    """What two models make of some of the test images."""

    name: str
    """`class 'cat'`, or `slice 'night'`."""
    n: int
    known: int
    """Images that the champion gets right."""
    won: int
    """Images that the candidate gets right and the champion got wrong."""
    lost: tuple[str, ...]
    """The other way: their names."""

    @property
    def p(self) -> float:
        """P(X >= lost) for X of Binomial(won + lost, 1/2), which is P(X <= won)."""
        return tail(self.won, self.won + len(self.lost))

    @property
    def least_p(self) -> float:
        """Had all images that differ been lost."""
        return math.ldexp(1.0, -self.won - len(self.lost))


class Image(NamedTuple):
    """One test image."""

    name: str
    label: str
    right: bool
    """Whether the candidate gets it right."""
    known: bool
    """Whether the champion does."""


def parts(
    candidate: Evaluation,
    champion: Evaluation,
    slices: Mapping[str, Slice],
    traits: Mapping[str, Traits] | None = None,
) -> list[Part]:
    """Every class and every slice, also one without a test image. Images without `traits` are known by their names."""
    images = list(compared(candidate, champion))
    known = {image.name: Traits(file=image.name) for image in images} | dict(traits or {})
    members: dict[str, list[Image]] = {f"class {label!r}": [] for label in candidate.classes}
    for image in images:
        members[f"class {image.label!r}"].append(image)
    for name, cut in slices.items():
        members[f"slice {name!r}"] = [image for image in images if cut.holds(known[image.name])]
    return [
        Part(
            name=name,
            n=len(these),
            known=sum(image.known for image in these),
            won=sum(image.right > image.known for image in these),
            lost=tuple(image.name for image in these if image.right < image.known),
        )
        for name, these in members.items()
    ]


def clearly_worse(judged: list[Part], alpha: float) -> list[tuple[Part, float]]:
    """The parts with their corrected p (at most `alpha`), the surest first."""
    suspects = sorted((part for part in judged if part.least_p <= alpha), key=lambda part: (part.p, part.name))
    worse, p = [], 0.0
    for index, part in enumerate(suspects):
        p = max(p, min(1.0, part.p * (len(suspects) - index)))
        if p > alpha:
            break
        worse.append((part, p))
    return worse


def too_small(judged: list[Part], alpha: float) -> list[Part]:
    """Of these it could not be told even if the candidate lost all that the champion knows."""
    return [part for part in judged if 0.5**part.known > alpha]


def compared(candidate: Evaluation, champion: Evaluation) -> Iterator[Image]:
    """Every test image, in the order of the names."""
    ours, theirs = candidate.outcomes, champion.outcomes
    for name, truth, our, their in zip(ours.names, ours.truths, ours.answered, theirs.answered, strict=True):
        yield Image(name, candidate.classes[truth], truth == our, truth == their)
