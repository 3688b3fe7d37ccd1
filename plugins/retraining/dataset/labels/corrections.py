"""What a sync makes of a person's decisions: images in another class than their folder's, or in none. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from retraining.dataset.labels.sheet import Decision, SheetError
from retraining.dataset.pictures.verdict import Rejected, VerifiedImage
from retraining.dataset.sources.source import SourceFile

DIGITS = 20
"""Of a digest, in an image's name."""
TOLD = {
    "relabelled": "in another class than the folder's",
    "removed": "left out",
    "out_of_date": "about images that are gone, or in another class by now",
}

NO_ORIGINALS: Mapping[str, str] = {}

Judged = list[tuple[SourceFile, VerifiedImage | Rejected]]


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """Decisions that changed something, those that agree with the folders, and those whose image is not there so."""

    relabelled: Sequence[Decision] = ()
    removed: Sequence[Decision] = ()
    out_of_date: int = 0
    """Their images are gone, or lie in a third class by now."""

    def __bool__(self) -> bool:
        return bool(self.relabelled or self.removed or self.out_of_date)

    def counts(self) -> dict[str, int]:
        return {
            "relabelled": len(self.relabelled),
            "removed": len(self.removed),
            "out_of_date": self.out_of_date,
        }

    def as_dict(self) -> dict[str, Any]:
        """With who decided what, and when, in the order of the images."""
        rows = [
            {
                "image": one.image,
                "file": one.file,
                "class": one.label,
                "now": one.now if one.what == "relabel" else None,
                "by": one.by,
                "when": one.when,
            }
            for one in sorted([*self.relabelled, *self.removed], key=lambda one: one.image)
        ]
        return self.counts() | {"decisions": rows}


def forgotten(judged: Judged, decisions: Iterable[Decision]) -> set[str]:
    """Contents of decisions that no image has by now, where some were converted: another zlib packs these otherwise."""
    verified = [verdict for _, verdict in judged if isinstance(verdict, VerifiedImage)]
    if not any(verdict.original for verdict in verified):
        return set()
    return {one.content for one in decisions} - {verdict.sha256[:DIGITS] for verdict in verified}


def corrected(
    judged: Judged, decisions: Iterable[Decision], originals: Mapping[str, str] = NO_ORIGINALS
) -> tuple[Judged, Corrections]:
    """Verified files as the decisions have them; SheetError for a class that the source does not have.

    `originals`: content of a converted image that a decision is about → SHA-256 of the file it was.
    """
    by_content = {one.content: one for one in decisions}
    if not by_content:
        return judged, Corrections()
    by_original = {originals[content]: one for content, one in by_content.items() if content in originals}
    classes = {file.label for file, _ in judged}
    found: Judged = []
    relabelled, removed, fits = dict[str, Decision](), dict[str, Decision](), set[str]()
    for file, verdict in judged:
        one = _about(verdict, by_content, by_original) if isinstance(verdict, VerifiedImage) else None
        if one is None or file.label != one.label or one.what == "keep":
            if one is not None and file.label == one.now:
                fits.add(one.content)
            found.append((file, verdict))
            continue
        named = replace(one, file=file.name)
        if one.what == "remove":
            removed[one.content] = named
            continue
        if one.now not in classes:
            raise SheetError(
                f"{one.by} gave {file.name} the class {one.now!r} on {one.when}, and the source has no such class: "
                f"{', '.join(sorted(classes)[:20])}. Add a folder of that name, or change the decision."
            )
        relabelled[one.content] = named
        found.append((replace(file, label=one.now), verdict))
    known = relabelled.keys() | removed.keys() | fits
    return found, Corrections(
        relabelled=list(relabelled.values()),
        removed=list(removed.values()),
        out_of_date=len(by_content.keys() - known),
    )


def _about(
    verdict: VerifiedImage, by_content: Mapping[str, Decision], by_original: Mapping[str, Decision]
) -> Decision | None:
    if (one := by_content.get(verdict.sha256[:DIGITS])) or verdict.original is None:
        return one
    return by_original.get(verdict.original.sha256)


def told(counts: Mapping[str, int]) -> list[str]:
    """`Corrections.counts()` in a sentence; none where there is nothing to say."""
    said = [f"{counts[what]} {text}" for what, text in TOLD.items() if counts.get(what)]
    return [f"By decisions in `labels.csv`: {', '.join(said)}."] if said else []
