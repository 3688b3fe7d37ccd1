"""Which image belongs to which split: decided by content, so it stays the same when other images come and go.

Or by a group named in the file's name, where images of one thing must not be on both sides of a measurement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Set
from itertools import accumulate, pairwise
from typing import Literal, get_args

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


class SplitError(ValueError):
    """The images cannot be divided as asked."""


def assign_splits(
    label: str, groups: Mapping[str, str], shares: Mapping[SplitName, float], *, shared: Set[str] = frozenset()
) -> dict[str, SplitName]:
    """Split of each image of one class. Each split in `shares` gets at least one image; equal bytes are one image.

    `groups` says for each image's digest what it belongs to: the digest itself, or what it must not be separated from
    (all X-rays of one patient). Each group is a point between 0 and 1, and the shares divide that line, so a group that
    is in several classes is in the same split in all of them. A small class may leave a part empty: then the group
    nearest to that part moves in, from a part that can spare one; those in `shared` (with other classes) never move.
    """
    points = {group: _point(group) for group in groups.values()}
    splits = [split for split in SPLITS if split in shares]
    if len(points) < len(splits):
        what = "usable image(s)" if len(points) == len(groups) else "group(s) of images"
        raise SplitError(
            f"class {label!r} has {len(points)} {what} to divide into {', '.join(splits)}; "
            "each needs at least one. Add images or remove the class."
        )
    total = sum(shares[split] for split in splits)
    edges = [0.0, *accumulate(shares[split] / total for split in splits)]
    parts = dict(zip(splits, pairwise(edges), strict=True))
    assigned: dict[str, SplitName] = {}
    for group, point in points.items():
        assigned[group] = next((split for split, (_, end) in parts.items() if point < end), splits[-1])
    for split in splits:
        if split not in assigned.values():
            begin, end = parts[split]
            centre = (begin + end) / 2
            counts = {other: list(assigned.values()).count(other) for other in splits}
            spare = [group for group, other in assigned.items() if counts[other] > 1 and group not in shared]
            if not spare:
                raise SplitError(
                    f"class {label!r} has no group of images for {split} that is not in other classes too. "
                    "Add images of others, or change the shares."
                )
            assigned[min(spare, key=lambda group: (abs(points[group] - centre), group))] = split
    return {digest: assigned[group] for digest, group in groups.items()}


def _point(group: str) -> float:
    # Hashed once more, so that the split does not follow the object names, which begin with the digest.
    return int(hashlib.sha256(f"split:{group}".encode()).hexdigest()[:12], 16) / 16**12
