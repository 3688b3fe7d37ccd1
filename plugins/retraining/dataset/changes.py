"""What is other in one version of the data than in another, image by image. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from retraining.dataset.split import SplitName

EXAMPLES = 3

Manifests = Mapping[SplitName, Sequence[str]]
"""Split → names `<class>/<digest>.<extension>`."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Numbers of images; names are those of the manifests."""

    since: str
    """Fingerprint of the earlier version."""
    added: Mapping[str, int]
    """Class → how many."""
    removed: Mapping[str, int]
    relabelled: Mapping[str, int]
    """ "was → is" → how many: the same bytes in another class."""
    examples: Sequence[str]
    """Of the relabelled."""
    moved: int
    """In another split, for a class needed one there, or the source has them there."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def changes(since: str, before: Manifests, now: Manifests) -> Changes:
    """From `before`, the version `since`, to `now`."""
    was, is_ = _places(before), _places(now)
    both = was.keys() & is_.keys()
    relabelled = sorted(image for image in both if was[image][0] != is_[image][0])
    return Changes(
        since=since,
        added=_counted(is_[image][0] for image in is_.keys() - both),
        removed=_counted(was[image][0] for image in was.keys() - both),
        relabelled=_counted(f"{was[image][0]} → {is_[image][0]}" for image in relabelled),
        examples=[f"{is_[image][0]}/{image}" for image in relabelled[:EXAMPLES]],
        moved=sum(was[image][1] != is_[image][1] for image in both),
    )


def _places(manifests: Manifests) -> dict[str, tuple[str, str]]:
    """Image → its class and its split."""
    found: dict[str, tuple[str, str]] = {}
    for split, names in manifests.items():
        for name in names:
            label, _, image = name.rpartition("/")
            found[image] = label, split
    return found


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))
