"""What images must not be divided from each other: all of one patient, product or scene, as their files' names tell."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from retraining.dataset.layouts.name_search import SearchError, search

EXAMPLES = 3


class GroupError(ValueError):
    """The images cannot be grouped as asked."""


@dataclass(frozen=True, kw_only=True)
class GroupSummary:
    """What a report says about the groups; names are examples."""

    pattern: str
    groups: int
    smallest: int
    median: float
    largest: int
    """Images of a group."""
    ungrouped: int
    """Images in whose names nothing was found: each stands for itself."""
    ungrouped_examples: list[str]
    divided_by_source: int
    """Groups on several sides because the source's own split folders have them so; here none is divided."""
    divided_examples: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_groups(names: Mapping[str, Sequence[str]], pattern: str) -> dict[str, str]:
    """Digest → its group, or the digest itself. `names`: digest → the files of these bytes, as the source calls them.

    Searched is each file's own name, without its folders. Bytes found under the names of two groups make them one.
    Raises GroupError for a pattern that finds nothing at all, or takes too long.
    """
    bases = [(digest, name.rsplit("/", 1)[-1]) for digest, all_names in names.items() for name in all_names]
    try:
        texts = search("split.group_by", pattern, [base for _, base in bases])
    except SearchError as error:
        raise GroupError(str(error)) from None
    if not any(texts):
        examples = ", ".join(base for _, base in bases[:EXAMPLES])
        raise GroupError(
            f"split.group_by = {pattern!r} finds nothing in any of {len(bases)} file names, for example {examples}. "
            "It is searched in each file's own name, without its folders; correct it, or leave it out."
        )
    joined: dict[str, str] = {}
    of_digest: dict[str, str] = {}
    for (digest, _), text in zip(bases, texts, strict=True):
        if text:
            first = of_digest.setdefault(digest, text)
            one, other = sorted((_root(joined, first), _root(joined, text)))
            if one != other:
                joined[other] = one
    return {d: f"group:{_root(joined, of_digest[d])}" if d in of_digest else d for d in names}


def groups_of(names: Mapping[str, str], pattern: str) -> dict[str, str]:
    """What the pattern finds in the file's own name, of each image in which it does. `names`: image → the source's."""
    found = search("split.group_by", pattern, [name.rsplit("/", 1)[-1] for name in names.values()])
    return {image: group for image, group in zip(names, found, strict=True) if group}


def joined(groups: Mapping[str, str], clusters: Sequence[Sequence[str]]) -> dict[str, str]:
    """The same with the images of each cluster in one group, and so all that are in groups with them.

    `clusters`: of digests. A group that names gave keeps its own, so that its split stays when a cluster grows.
    """
    above: dict[str, str] = {}
    for cluster in clusters:
        first, *others = (groups[digest] for digest in cluster)
        for other in others:
            low, high = sorted((_root(above, first), _root(above, other)))
            if low != high:
                above[low] = high  # "group:…" is higher than any digest
    return {digest: _root(above, group) for digest, group in groups.items()}


def summarise(
    pattern: str, groups: Mapping[str, str], names: Mapping[str, str], splits: Mapping[str, str]
) -> GroupSummary:
    """`groups`, `names`, `splits`: of each image, by its digest."""
    named = {digest: group for digest, group in groups.items() if group != digest}
    sizes = sorted(Counter(named.values()).values()) or [0]
    parts: dict[str, set[str]] = {}
    for digest, group in named.items():
        parts.setdefault(group, set()).add(splits[digest])
    alone = sorted(names[digest] for digest in groups.keys() - named.keys())
    divided = sorted(group.removeprefix("group:") for group, its in parts.items() if len(its) > 1)
    return GroupSummary(
        pattern=pattern,
        groups=len(parts),
        smallest=sizes[0],
        median=statistics.median(sizes),
        largest=sizes[-1],
        ungrouped=len(alone),
        ungrouped_examples=alone[:EXAMPLES],
        divided_by_source=len(divided),
        divided_examples=divided[:EXAMPLES],
    )


def _root(joined: dict[str, str], group: str) -> str:
    while group in joined:
        group = joined[group]
    return group
