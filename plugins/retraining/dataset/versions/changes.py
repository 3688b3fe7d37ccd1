"""What is other in one version of the data than in another, image by image. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from retraining.dataset.split import SplitName

EXAMPLES = 3
FEW = 20
"""Images whose loss says nothing."""

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


def shrunk(before: Manifests, now: Manifests, min_share: float) -> list[str]:
    """Where much of the data is gone, as a folder that is half mounted or half uploaded looks; numbers, not images, so
    that a source whose files were all saved anew has lost nothing. A class that is gone whole is told elsewhere."""
    was, is_ = (Counter(name.rpartition("/")[0] for names in each.values() for name in names) for each in (before, now))
    places = [("in all", was.total(), is_.total())] + [
        (f"of class {label!r}", was[label], is_[label]) for label in sorted(was)
    ]
    return [
        f"{many_now} images {where}, where there were {many}"
        for where, many, many_now in places
        if many_now and many - many_now >= FEW and many_now < min_share * many
    ]


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
