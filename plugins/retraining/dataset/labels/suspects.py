"""Labels that models doubt: of training images by the training, of test images by how they were answered. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

GAP = 0.4
"""By how much likelier than the given class another one must be; as in `ml/training/label_votes.py`."""
FORMAT = 1
MOST = 500
"""As many as the training tells, and as many of the test images; the surest come first."""


class UnreadableSuspects(ValueError):
    """What a training left as labels.json is none."""


def content(image: str) -> str:
    """What of an image's name in the manifests stands for its bytes."""
    return image.rpartition("/")[2].partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An image whose label is doubted."""

    image: str
    """Its name in the manifests, `<class>/<digest>.<extension>`."""
    split: str
    label: str
    likely: str
    gap: float
    """How much likelier, 0 to 1."""

    @property
    def content(self) -> str:
        """Names the image's bytes, whatever class they are in."""
        return content(self.image)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Doubts:
    """All that a run found."""

    suspects: Sequence[Suspect]
    """The surest first."""
    count: int
    """How many there are; of very many not all are told."""
    judged: int
    """Images that were looked at."""
    unjudged: Sequence[str] = ()
    """Classes of too few images, or that the network does not know: nothing can be said of their labels."""


def of_training(document: Any, known: Mapping[str, str]) -> Doubts:
    """What `ml/training/suspects.py` left; `known` is the class of each image of the version by its name.

    The training script may be somebody's own: UnreadableSuspects where this is not its format, and images and classes
    that the version does not have are passed over.
    """
    try:
        if document["format"] != FORMAT:
            raise UnreadableSuspects(f"its format is {document['format']!r}, not {FORMAT}")
        labels = set(known.values())
        found = [
            Suspect(
                image=str(each["image"]),
                split=str(each["split"]),
                label=str(each["class"]),
                likely=str(each["likely"]),
                gap=min(1.0, max(0.0, float(each["gap"]))),
            )
            for each in document["suspects"][:MOST]
        ]
        unjudged = [str(label) for label in document["unjudged"] if label in labels]
        count, judged = int(document["count"]), int(document["images"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableSuspects(f"labels.json cannot be read: {type(error).__name__}: {error}") from error
    trusted = [one for one in found if known.get(one.image) == one.label and one.likely in labels - {one.label}]
    return Doubts(suspects=trusted, count=count - (len(found) - len(trusted)), judged=judged, unjudged=unjudged)


def of_answers(
    classes: Sequence[str],
    expected: Mapping[str, str],
    answers: Mapping[str, Sequence[float]],
    champions: Mapping[str, str] | None = None,
) -> Doubts:
    """Test images of which the candidate is sure that they are something else, and the champion says the same.

    `champions`: what the champion answered to the images that it was asked; None without one. Neither has learnt from
    a test image.
    """
    found = []
    for image, label in expected.items():
        given = answers[image]
        likely = max(range(len(classes)), key=given.__getitem__)
        gap = given[likely] - given[classes.index(label)]
        agrees = champions is None or champions.get(image) == classes[likely]
        if gap > GAP and agrees:
            found.append(
                Suspect(image=image, split="test", label=label, likely=classes[likely], gap=round(min(1.0, gap), 4))
            )
    found.sort(key=lambda one: (-one.gap, one.image))
    return Doubts(suspects=found[:MOST], count=len(found), judged=len(expected))


def together(doubts: Iterable[Doubts], given: Collection[tuple[str, str]] = ()) -> Doubts:
    """All of them, but for labels that a person gave: (digest in the image's name, class)."""
    every = list(doubts)
    found = [one for each in every for one in each.suspects]
    open_ = [one for one in found if (one.content, one.label) not in given]
    return Doubts(
        suspects=sorted(open_, key=lambda one: (-one.gap, one.image)),
        count=sum(each.count for each in every) - (len(found) - len(open_)),
        judged=sum(each.judged for each in every),
        unjudged=sorted({label for each in every for label in each.unjudged}),
    )
