"""A version of a data set: which images count, in which split, and what was kept out. Pure: data in, data out."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from retraining.dataset.labels.corrections import Corrections
from retraining.dataset.layouts.groups import GroupSummary, find_groups, joined, summarise
from retraining.dataset.near.leaks import NearSummary, copied_classes, leaks, near_summary
from retraining.dataset.pictures.verdict import Original, Rejected, VerifiedImage
from retraining.dataset.sources.source import SourceFile
from retraining.dataset.split import SPLITS, SplitError, SplitName, assign_splits
from retraining.fingerprint import dataset_fingerprint
from retraining.printable import printable
from retraining.recipe import Split

# A few bad files are normal; many mean that the source is broken, and a model of the rest would be a surprise.
QUARANTINE_SHARE = 0.02
QUARANTINE_CLASS_SHARE = 0.10
QUARANTINE_ALWAYS = 3
MAX_NAMED = 6
NOTHING = Corrections()

Copies = list[tuple[SourceFile, VerifiedImage]]
"""Files of the same bytes."""


class DatasetError(ValueError):
    """The data must not be trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """One image of a version; several equal files of a source are one image."""

    label: str
    sha256: str
    """Of its bytes in S3."""
    identity: str
    """Its SHA-256 too, or what stands for it where it was converted: the same on every machine."""
    extension: str
    split: SplitName
    file: SourceFile
    original: Original | None = None

    @property
    def entry(self) -> str:
        """Its name in manifests, and below data/images/ in S3."""
        return f"{self.label}/{self.sha256[:20]}.{self.extension}"


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A file that was kept out, and why."""

    file: SourceFile
    code: str
    detail: str
    sha256: str | None = None
    """Of the file, where it was read."""

    @property
    def key(self) -> str | None:
        """Of its copy, below data/ in S3; None for what was not read, or was reached over a link and is no image."""
        return f"quarantine/{self.code}/{self.sha256[:20]}" if self.sha256 and not self.file.linked else None

    def as_dict(self) -> dict[str, str]:
        return {"name": self.file.name, "class": self.file.label, "code": self.code, "detail": self.detail}


@dataclass(frozen=True, kw_only=True)
class Version:
    """Everything about one version of the data."""

    images: list[Image]
    quarantined: list[Quarantined]
    duplicates: int
    source: str
    shares: Split
    layout: Mapping[str, Any] = field(default_factory=dict)
    """How the source's folders were understood."""
    groups: GroupSummary | None = None
    animated: int = 0
    """Images of several frames, of which the first counts."""
    near: NearSummary | None = None
    corrections: Corrections = NOTHING
    """What people decided about single labels."""

    @property
    def classes(self) -> list[str]:
        return sorted({image.label for image in self.images})

    @cached_property  # of 100,000 images half a second, and it is asked for five times in a sync
    def fingerprint(self) -> str:
        return dataset_fingerprint((image.split, image.label, image.identity) for image in self.images)

    @property
    def converted(self) -> dict[str, int]:
        """Format → how many images were of it, and are PNG now."""
        return dict(sorted(Counter(image.original.format for image in self.images if image.original).items()))

    @property
    def originals(self) -> dict[str, dict[str, str]]:
        """originals.json: what the converted images were, by their names in the manifests."""
        return {
            image.entry: {"name": image.file.name, "format": image.original.format, "sha256": image.original.sha256}
            for image in self.images
            if image.original
        }

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Split → class → number of images."""
        counted = Counter((image.split, image.label) for image in self.images)
        return {split: {label: counted[split, label] for label in self.classes} for split in SPLITS}

    def manifest(self, split: SplitName, images_uri: str) -> list[Any]:
        """SageMaker's ManifestFile: the prefix, then the names below it."""
        entries = sorted(image.entry for image in self.images if image.split == split)
        return [{"prefix": images_uri}, *entries]

    @property
    def names(self) -> dict[str, str]:
        """How the source calls the images, by their names in the manifests."""
        return {image.entry: image.file.name for image in self.images}

    def document(self) -> dict[str, Any]:
        """dataset.json. The same data gives the same bytes: no times, no run names."""
        return {
            "format": 1,
            "fingerprint": self.fingerprint,
            "classes": self.classes,
            "counts": self.counts,
            "split": asdict(self.shares),
            "source": printable(self.source),
            "duplicates": self.duplicates,
            "layout": dict(self.layout),
            "groups": self.groups.as_dict() if self.groups else None,
            "animated": self.animated,
            "near_duplicates": self.near.as_dict() if self.near else None,
            **({"converted": self.converted} if self.converted else {}),
            **({"corrections": self.corrections.as_dict()} if self.corrections else {}),
            "quarantined": [entry.as_dict() for entry in self.quarantined],
        }


def make_version(
    judged: Sequence[tuple[SourceFile, VerifiedImage | Rejected]],
    source: str,
    shares: Split,
    layout: Mapping[str, Any] | None = None,
    near: Sequence[Sequence[str]] = (),
) -> Version:
    """Divide verified files into a version; DatasetError, SplitError or GroupError when they must not be trained on.

    `near`: identities of images that are nearly the same, which are never divided.
    """
    quarantined = [
        Quarantined(file=file, code=verdict.code, detail=verdict.detail, sha256=verdict.sha256)
        for file, verdict in judged
        if isinstance(verdict, Rejected)
    ]
    by_digest: dict[str, Copies] = defaultdict(list)
    for file, verdict in judged:
        if isinstance(verdict, VerifiedImage):
            by_digest[verdict.identity].append((file, verdict))
    files = [file for file, _ in judged]
    alike = near
    near, confusing = _believable(files, by_digest, alike, quarantined)
    usable, conflicts = _without_conflicts(by_digest, near)
    quarantined += conflicts
    try:
        _check_budget(files, quarantined)
    except DatasetError:
        _refuse_copy(by_digest)
        raise
    called = {digest: sorted(file.name for file, _ in copies) for digest, copies in usable.items()}
    grouped = find_groups(called, shares.group_by) if shares.group_by and usable else {d: d for d in usable}
    clusters = [cluster for cluster in near if all(digest in usable for digest in cluster)]
    images, left_out = _divide(usable, shares, joined(grouped, clusters), clusters)
    lost = {file.label for file, _ in judged} - {image.label for image in images}
    if lost:
        raise DatasetError(f"No usable image is left in {sorted(lost)}. Repair the images or remove the class.")
    return Version(
        images=sorted(images, key=lambda image: image.entry),
        quarantined=sorted(quarantined, key=lambda entry: entry.file.name),
        duplicates=sum(len(copies) - 1 for copies in usable.values()),
        source=source,
        shares=shares,
        layout=layout or {},
        groups=_summary(shares, images, grouped),
        near=near_summary(
            {digest: names[0] for digest, names in called.items()},
            clusters,
            left_out,
            confusing,
            copied_classes(_labels(by_digest), alike) if confusing else (),
        ),
        animated=sum(copies[0][1].frames > 1 for copies in usable.values()),
    )


def _summary(shares: Split, images: Sequence[Image], grouped: Mapping[str, str]) -> GroupSummary | None:
    if shares.group_by is None:
        return None
    names, splits = ({i.identity: i.file.name for i in images}, {i.identity: i.split for i in images})
    return summarise(shares.group_by, {digest: grouped[digest] for digest in names}, names, splits)


def _labels(by_digest: Mapping[str, Copies]) -> dict[str, set[str]]:
    return {digest: {file.label for file, _ in copies} for digest, copies in by_digest.items()}


def _believable(
    files: Sequence[SourceFile],
    by_digest: Mapping[str, Copies],
    near: Sequence[Sequence[str]],
    quarantined: Sequence[Quarantined],
) -> tuple[list[Sequence[str]], int]:
    """The clusters to go by, and how many images are in those that are not gone by.

    A few pictures with two labels are mistakes. Where they are many, what makes the classes is not seen at this size.
    """
    labels = _labels(by_digest)
    of_one_class = [cluster for cluster in near if len(set[str]().union(*(labels[each] for each in cluster))) == 1]
    try:
        _check_budget(files, [*quarantined, *_without_conflicts(by_digest, near)[1]])
    except DatasetError:
        return of_one_class, sum(map(len, near)) - sum(map(len, of_one_class))
    return list(near), 0


def _without_conflicts(
    by_digest: Mapping[str, Copies], near: Sequence[Sequence[str]]
) -> tuple[dict[str, Copies], list[Quarantined]]:
    """What nobody calls by two classes, neither the same bytes nor nearly the same picture; and the rest."""
    kept, quarantined = dict(by_digest), list[Quarantined]()
    same = [("LABEL_CONFLICT", "the same bytes are", [digest]) for digest in by_digest]
    alike = [("NEAR_LABEL_CONFLICT", "nearly the same picture is", list(cluster)) for cluster in near]
    for code, what, digests in same + alike:
        copies = [copy for digest in digests if digest in kept for copy in kept[digest]]
        if len({file.label for file, _ in copies}) <= 1:
            continue
        names = sorted(file.name for file, _ in copies)
        shown = ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if names[MAX_NAMED:] else "")
        for digest in digests:
            kept.pop(digest, None)
        quarantined += [
            Quarantined(
                file=file,
                code=code,
                detail=f"{what} in several classes: {shown}",
                sha256=verdict.original.sha256 if verdict.original else verdict.sha256,
            )
            for file, verdict in copies
        ]
    return kept, quarantined


def _refuse_copy(by_digest: Mapping[str, Copies]) -> None:
    """A folder that holds nothing but what the other class folders hold is the whole set once more, and no class."""
    elsewhere: dict[str, list[set[str]]] = defaultdict(list)
    for labels in _labels(by_digest).values():
        for label in labels:
            elsewhere[label].append(labels - {label})
    whole = {label: set().union(*others) for label, others in elsewhere.items() if all(others)}
    if not whole:
        return
    # Each class of which all lies in `all` as well is one of those that it repeats.
    copy = max(sorted(whole), key=lambda label: (len(whole[label]), len(elsewhere[label])))
    others = sorted(whole[copy])
    raise DatasetError(
        f"All {len(elsewhere[copy])} images of {copy!r} lie in {_some(others)} as well, byte for byte: it is a copy of "
        f"what is there, and no class. Move the folder {copy!r} out of the source and run again."
    )


def _divide(
    usable: Mapping[str, Copies], shares: Split, groups: Mapping[str, str], clusters: Sequence[Sequence[str]]
) -> tuple[list[Image], dict[str, str]]:
    """Splits the source already has are kept; the missing ones are taken from what it calls train, or from all.

    Also returns the images left out, since nearly the same are measured with: digest → of which.
    """
    present = {file.split for copies in usable.values() for file, _ in copies if file.split is not None}
    fixed = present - {"train"}
    open_shares: dict[SplitName, float] = {s: getattr(shares, s) for s in SPLITS if s not in fixed}
    labels: dict[str, dict[str, SplitName | None]] = defaultdict(dict)
    classes: dict[str, set[str]] = defaultdict(set)
    for digest, copies in usable.items():
        classes[groups[digest]].add(copies[0][0].label)
    shared = {group for group, its_labels in classes.items() if len(its_labels) > 1}
    given: dict[str, SplitName | None] = {}
    for digest, copies in usable.items():
        # Equal bytes in train and test would leak: the copy that is measured with stays.
        kept = max((file.split for file, _ in copies), key=lambda split: SPLITS.index(split) if split else -1)
        given[digest] = kept if kept in fixed else None
    left_out = leaks(given, clusters)
    for digest in usable.keys() - left_out.keys():
        labels[usable[digest][0][0].label][digest] = given[digest]
    images, refused = [], dict[str, str]()
    for label, digests in sorted(labels.items()):
        undecided = {digest: groups[digest] for digest, split in digests.items() if split is None}
        try:
            splits = assign_splits(label, undecided, open_shares, shared=shared)
        except SplitError as error:
            refused[label] = str(error) if undecided else _untrained(label, digests.values())
            continue
        for digest, kept in digests.items():
            file, verified = min(usable[digest], key=lambda copy: copy[0].name)
            split = kept or splits[digest]
            images.append(
                Image(
                    label=label,
                    sha256=verified.sha256,
                    identity=digest,
                    extension=verified.extension,
                    split=split,
                    file=file,
                    original=verified.original,
                )
            )
    if refused:
        first, *others = refused
        more = f" {len(others)} more classes cannot be divided: {_some(others)}." if others else ""
        raise SplitError(refused[first] + more)
    for split in fixed:
        if missing := sorted(set(labels) - {image.label for image in images if image.split == split}):
            raise DatasetError(
                f"The source's own {split} folder has no usable image of {missing}. Add some, or remove it."
            )
    return images, left_out


def _untrained(label: str, splits: Iterable[SplitName | None]) -> str:
    folders = " and ".join(sorted({split for split in splits if split}))
    return (
        f"class {label!r} is in the source's own {folders} alone, and there is nothing to train it on. "
        "Rename its folder there if train calls it otherwise, or remove it."
    )


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:MAX_NAMED]) + (" and others" if labels[MAX_NAMED:] else "")


def _check_budget(files: Sequence[SourceFile], quarantined: Sequence[Quarantined]) -> None:
    _over_budget("the source", len(files), list(quarantined), QUARANTINE_SHARE)
    sizes = Counter(file.label for file in files)
    for label, size in sorted(sizes.items()):
        bad = [entry for entry in quarantined if entry.file.label == label]
        _over_budget(f"class {label!r}", size, bad, QUARANTINE_CLASS_SHARE)


def _over_budget(where: str, total: int, bad: list[Quarantined], share: float) -> None:
    if len(bad) <= max(QUARANTINE_ALWAYS, share * total):
        return
    codes = ", ".join(f"{code} {count}" for code, count in Counter(entry.code for entry in bad).most_common())
    examples = "".join(f"\n    {entry.file.name}: {entry.code}, {entry.detail}" for entry in bad[:5])
    raise DatasetError(
        f"{len(bad)} of {total} files of {where} cannot be used ({codes}); at most {share:.0%} may be left out. "
        f"Repair or remove them and run again. For example:{examples}"
    )


def as_json(document: Any) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode()
