"""Near-duplicates on two sides of a measurement, where the source's own split folders have put them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from retraining.dataset.split import SPLITS, SplitName

EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class NearSummary:
    """What a report says of near-duplicates; names are examples."""

    images: int
    clusters: int
    examples: list[list[str]]
    left_out: int
    """Images that are not trained on, since nearly the same is measured with."""
    left_out_examples: list[list[str]]
    """[what is left out, what it is like]."""
    confusing: int = 0
    """Images nearly the same as some of other classes, but too many to be mistakes: nothing is done to them."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def leaks(kept: Mapping[str, SplitName | None], clusters: Sequence[Sequence[str]]) -> dict[str, str]:
    """Digest of an image to leave out → the one that it is like, and that is measured with.

    `kept`: the split that the source gives an image for good, None where it is still to be divided.
    """
    found = {}
    for cluster in clusters:
        first = max(cluster, key=lambda digest: (_rank(kept[digest]), digest))
        if kept[first] is not None:
            found.update({digest: first for digest in cluster if kept[digest] != kept[first]})
    return found


def near_summary(
    names: Mapping[str, str], clusters: Sequence[Sequence[str]], left_out: Mapping[str, str], confusing: int
) -> NearSummary:
    """`names`: of each image, by its digest."""
    told = sorted(sorted(names[digest] for digest in cluster)[:EXAMPLES] for cluster in clusters)
    return NearSummary(
        images=sum(map(len, clusters)),
        clusters=len(clusters),
        examples=told[:EXAMPLES],
        left_out=len(left_out),
        confusing=confusing,
        left_out_examples=sorted([names[one], names[other]] for one, other in left_out.items())[:EXAMPLES],
    )


def _rank(split: SplitName | None) -> int:
    return -1 if split is None else SPLITS.index(split)
