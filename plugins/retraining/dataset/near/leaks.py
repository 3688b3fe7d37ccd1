"""Near-duplicates on two sides of a measurement, where the source's own split folders have put them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from itertools import permutations
from typing import Any

from retraining.dataset.split import SPLITS, SplitName

EXAMPLES = 5
MOST = 0.8
"""Of the images of two classes: so many pairs that are nearly the same make one a copy of the other."""


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

    copies: list[list[str]] = field(default_factory=list)
    """[class, the class that it may be a copy of]: picture by picture nearly the same, and called alike."""

    def as_dict(self) -> dict[str, Any]:
        """Without copies where there are none: the same data gives the same bytes as before."""
        told = asdict(self)
        return told if self.copies else {key: value for key, value in told.items() if key != "copies"}


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


def copied_classes(labels: Mapping[str, Set[str]], clusters: Sequence[Sequence[str]]) -> list[list[str]]:
    """[X_raw, X] where nearly each image of the one has one of the other that is nearly the same. `labels`: by digest.

    Their names have to say so, too: a scratched board is nearly a good one, and no copy.
    """
    sizes = Counter(label for its in labels.values() for label in its)
    alike = Counter[tuple[str, str]]()
    for cluster in clusters:
        counts = Counter(label for digest in cluster for label in labels[digest])
        for one, other in permutations(counts, 2):
            if other.lower().startswith(one.lower()):
                alike[other, one] += min(counts[one], counts[other])
    return sorted([*pair] for pair, count in alike.items() if count >= MOST * max(sizes[pair[0]], sizes[pair[1]]))


def near_summary(
    names: Mapping[str, str],
    clusters: Sequence[Sequence[str]],
    left_out: Mapping[str, str],
    confusing: int,
    copies: Sequence[list[str]] = (),
) -> NearSummary:
    """`names`: of each image, by its digest."""
    told = sorted(sorted(names[digest] for digest in cluster)[:EXAMPLES] for cluster in clusters)
    return NearSummary(
        images=sum(map(len, clusters)),
        clusters=len(clusters),
        examples=told[:EXAMPLES],
        left_out=len(left_out),
        confusing=confusing,
        copies=list(copies),
        left_out_examples=sorted([names[one], names[other]] for one, other in left_out.items())[:EXAMPLES],
    )


def _rank(split: SplitName | None) -> int:
    return -1 if split is None else SPLITS.index(split)
