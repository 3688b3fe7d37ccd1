"""A source looked at as a sync would look at it, with nothing written to S3 and nothing paid."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retraining.dataset.contact_sheet import contact_sheet
from retraining.dataset.layouts.groups import GroupError
from retraining.dataset.near.thumbs import Thumbs
from retraining.dataset.pictures.verdict import Rejected
from retraining.dataset.progress import Progress, in_log
from retraining.dataset.sources.archive import ArchiveError
from retraining.dataset.sources.memory import Memory
from retraining.dataset.sources.source import SourceError, open_source
from retraining.dataset.split import SplitError
from retraining.dataset.summary import notes_on, summary
from retraining.dataset.sync import as_fact, verify
from retraining.dataset.versions.likeness import likeness
from retraining.dataset.versions.version import DatasetError, make_version
from retraining.printable import printable
from retraining.recipe import Split, load_recipe
from retraining.recipe.layout import Layout
from retraining.s3.connections import keeping_many
from retraining.web_address import without_secrets

KEPT_OUT = 20
"""Files named in the text."""
LARGEST = 8
"""Classes named in the text."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a sync would say."""

    good: bool
    text: str
    html: str | None = None


def check(
    what: str, *, said: Layout | None = None, html: bool = False, names: bool = False, progress: Progress = in_log
) -> Checked:
    """`what`: a source, or a recipe file that names one. Raises RecipeError for a recipe that cannot be read.

    `said`: instead of the recipe's layout, to try what a refusal proposes.
    `names`: nothing is looked at but the files' names, and a table of their classes.
    """
    if not what.strip():
        return Checked(good=False, text="Refused: no source is named; . is the folder that you are in.")
    source, layout, split = what, said, Split()
    if what.lower().endswith((".yaml", ".yml")) and Path(what).is_file():
        recipe = load_recipe(Path(what))
        source, layout, split = recipe.source, said or recipe.layout, recipe.split
    try:
        return _laid_out(source, layout) if names else _checked(source, layout, split, html=html, progress=progress)
    except (SourceError, ArchiveError) as error:
        return Checked(good=False, text=f"Refused: {error}")


def _checked(source: str, layout: Layout | None, split: Split, *, html: bool, progress: Progress) -> Checked:
    with open_source(source, _s3(source), layout) as files:
        with closing(Thumbs(files.scratch / "thumbs")) as thumbs:
            judged, _ = verify(files, Memory(), thumbs, progress)
            alike = likeness((found for _, found in judged), thumbs, Memory(), None, "", "")
        kept_out = [(file, found) for file, found in judged if isinstance(found, Rejected)]
        try:
            version = make_version(judged, without_secrets(source), split, files.understood.as_dict(), alike.clusters)
            kept_out = [(one.file, Rejected(code=one.code, detail=one.detail)) for one in version.quarantined]
            said = "\n".join(summary(as_fact(version)))
            verdict, good = f"Good: {len(version.images)} images of {len(version.classes)} classes.", True
        except (DatasetError, SplitError, GroupError) as error:
            said, verdict, good = "", f"Refused: {error}", False
        lines = [f"{file.name}: {found.code}, {found.detail}" for file, found in kept_out[:KEPT_OUT]]
        more = [f"… and {len(kept_out) - KEPT_OUT} more"] if kept_out[KEPT_OUT:] else []
        parts = (said, "\n".join(["Kept out:", *lines, *more]) if lines else "", verdict)
        sheet = None
        if html:
            words = verdict if good else verdict.split("For example:")[0]
            sheet = contact_sheet(without_secrets(source), words, judged, alike.clusters, kept_out, files.scratch)
    return Checked(good=good, text="\n\n".join(filter(None, parts)), html=sheet)


def _laid_out(source: str, layout: Layout | None) -> Checked:
    with open_source(source, _s3(source), layout, fetch=False) as files:
        counts = Counter(file.label for file in files)
        notes = notes_on({"layout": files.understood.as_dict()})
    largest = ", ".join(f"{printable(label)} {count}" for label, count in counts.most_common(LARGEST))
    more = f" and {len(counts) - LARGEST} more" if len(counts) > LARGEST else ""
    said = f"{len(files)} files in {len(counts)} classes: {largest}{more}."
    return Checked(good=True, text="\n".join([said, *(f"- {note}" for note in notes)]))


def _s3(source: str) -> Any:
    if not source.startswith("s3://"):
        return None
    import boto3

    return boto3.client("s3", config=keeping_many())
