"""A source as one HTML file to look at: some images of each class, what is kept out, what is nearly the same."""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retraining.dataset.pictures.small import small
from retraining.dataset.pictures.verdict import Rejected, VerifiedImage
from retraining.dataset.sources.source import SourceFile

SHOWN, PAIRS, REJECTED = 12, 30, 500
"""Images of a class, clusters, and files kept out; how many there are is told."""
MAX_CLASSES = 300

Judged = Sequence[tuple[SourceFile, VerifiedImage | Rejected]]


def contact_sheet(
    source: str, verdict: str, judged: Judged, clusters: Sequence[Sequence[str]], kept_out: Judged, scratch: Path
) -> str:
    """`verdict`: in words; `kept_out`: of `judged`, or of conflicts; `scratch`: where converted pictures lie."""
    from jinja2 import Environment, PackageLoader

    pages = Environment(loader=PackageLoader("retraining.dataset"), autoescape=True)
    by_identity = {image.identity: (file, image) for file, image in judged if isinstance(image, VerifiedImage)}
    picture = _Pictures(scratch)
    return pages.get_template("contact_sheet.html").render(
        source=source,
        verdict=verdict,
        classes=_classes(judged, picture),
        pairs=[[picture(*by_identity[one]) for one in cluster[:3]] for cluster in clusters[:PAIRS]],
        pair_count=len(clusters),
        rejected=[
            {"name": file.name, "code": found.code, "detail": found.detail}
            for file, found in kept_out[:REJECTED]
            if isinstance(found, Rejected)
        ],
        rejected_count=len(kept_out),
    )


def _classes(judged: Judged, picture: _Pictures) -> list[tuple[str, Mapping[str, Any]]]:
    """Of each class the same few whenever it is looked at."""
    images: dict[str, list[tuple[SourceFile, VerifiedImage]]] = {}
    for file, found in judged:
        if isinstance(found, VerifiedImage):
            images.setdefault(file.label, []).append((file, found))
    chosen: list[tuple[str, Mapping[str, Any]]] = []
    for label, its in sorted(images.items())[:MAX_CLASSES]:
        shown = random.Random(0).sample(its, min(SHOWN, len(its)))
        shown.sort(key=lambda one: one[0].name)
        chosen.append((label, {"count": len(its), "shown": [picture(*one) for one in shown]}))
    return chosen


class _Pictures:
    """{"name", "picture"} of an image; a picture is None where its file cannot be read once more."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def __call__(self, file: SourceFile, image: VerifiedImage) -> dict[str, str | None]:
        path = self._scratch / image.sha256 if image.original else file.path
        try:
            body = base64.b64encode(small(path.read_bytes())).decode()
        except Exception:  # whatever a decoder says: the name alone is shown then
            return {"name": file.name, "picture": None}
        return {"name": file.name, "picture": f"data:image/jpeg;base64,{body}"}
