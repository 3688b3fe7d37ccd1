"""Which image belongs to which split: decided by content, so it stays the same when other images come and go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import accumulate, pairwise
from typing import Literal, get_args

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


class SplitError(ValueError):
    """The images cannot be divided as asked."""


def assign_splits(label: str, digests: Iterable[str], shares: Mapping[SplitName, float]) -> dict[str, SplitName]:
    """Split of each image of one class. Each split in `shares` gets at least one image; equal bytes are one image.

    Each digest is a point between 0 and 1, and the shares divide that line. A small class may leave a part empty: then
    the image nearest to that part moves in, from a part that can spare one.
    """
    points = {digest: _point(digest) for digest in digests}
    splits = [split for split in SPLITS if split in shares]
    if len(points) < len(splits):
        raise SplitError(
            f"class {label!r} has {len(points)} usable image(s) to divide into {', '.join(splits)}; "
            "each needs at least one. Add images or remove the class."
        )
    total = sum(shares[split] for split in splits)
    edges = [0.0, *accumulate(shares[split] / total for split in splits)]
    parts = dict(zip(splits, pairwise(edges), strict=True))
    assigned: dict[str, SplitName] = {}
    for digest, point in points.items():
        assigned[digest] = next((split for split, (_, end) in parts.items() if point < end), splits[-1])
    for split in splits:
        if split not in assigned.values():
            begin, end = parts[split]
            centre = (begin + end) / 2
            counts = {other: list(assigned.values()).count(other) for other in splits}
            spare = [digest for digest, other in assigned.items() if counts[other] > 1]
            assigned[min(spare, key=lambda digest: (abs(points[digest] - centre), digest))] = split
    return assigned


def _point(digest: str) -> float:
    # Hashed once more, so that the split does not follow the object names, which begin with the digest.
    return int(hashlib.sha256(f"split:{digest}".encode()).hexdigest()[:12], 16) / 16**12
