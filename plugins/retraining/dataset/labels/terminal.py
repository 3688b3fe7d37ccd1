"""What a person sees of doubted labels at a terminal, and decides there."""

from __future__ import annotations

import csv
import getpass
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from retraining.dataset.labels.sheet import Decision, SheetError, read
from retraining.dataset.labels.store import decide, read_decisions
from retraining.dataset.labels.suspects import content
from retraining.dataset.versions.kept import NoVersion, Versions
from retraining.plan import Plan
from retraining.printable import printable
from retraining.s3.documents import read_document

SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was said at the terminal. Images are called as in the sheet, or by their files."""

    relabel: Sequence[str] = ()
    """`IMAGE`, or `IMAGE=CLASS` where the likely class is not the right one."""
    keep: Sequence[str] = ()
    remove: Sequence[str] = ()
    take: Path | None = None
    """A sheet that was filled in."""
    save: Path | None = None
    by: str | None = None

    @property
    def decides(self) -> bool:
        return bool(self.relabel or self.keep or self.remove or self.take)


def labels(s3: Any, plan: Plan, asked: Asked) -> Iterator[str]:
    """Lines to print; SheetError, NoVersion or OSError where what was asked cannot be done."""
    where, text = _newest(s3, plan)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if asked.save:
        asked.save.write_text(text, encoding="utf-8")
        yield f"{asked.save}: {len(rows)} doubted labels. Fill in decision, by and when, then --take it."
    if asked.decides:
        new = _filled(asked) + _single(asked, [*rows, *_decided(rows, read_decisions(s3, plan))], where)
        every = decide(s3, plan, new)
        yield f"{len(new)} decided, {len(every)} in all: {plan.uri(plan.decisions_key)}. The next sync goes by them."
    elif not asked.save:
        yield from _table(rows, where, read_decisions(s3, plan))


def _newest(s3: Any, plan: Plan) -> tuple[str, str]:
    for kept in Versions(s3=s3, plan=plan).all():
        key = plan.proposals_key(kept.fingerprint)
        body, _ = read_document(s3, plan.environment.bucket, key)
        if body is not None:
            return plan.uri(key), body.decode("utf-8")
    raise NoVersion(
        f"no run of {plan.recipe.name} has looked for wrong labels yet; a run does once it scored its model"
    )


def _decided(rows: Sequence[Mapping[str, str]], decisions: Sequence[Decision]) -> list[dict[str, str]]:
    """Decisions about images that the sheet no longer doubts, as its lines: they can be changed, too."""
    doubted = {content(row["image"]) for row in rows}
    return [
        {"image": one.image, "class": one.label, "likely": one.now, "file": one.file}
        for one in decisions
        if one.content not in doubted
    ]


def _filled(asked: Asked) -> list[Decision]:
    return read(asked.take.read_bytes(), str(asked.take)) if asked.take else []


def _single(asked: Asked, rows: Sequence[Mapping[str, str]], where: str) -> list[Decision]:
    by = asked.by or getpass.getuser()
    found = []
    for what, images in (("relabel", asked.relabel), ("keep", asked.keep), ("remove", asked.remove)):
        for text in images:
            row, now = _row(text, rows, where, what)
            if what == "relabel" and now == row["class"]:
                raise SheetError(f"{text}: its class is {now!r} already; use --keep.")
            found.append(
                Decision(
                    image=row["image"],
                    label=row["class"],
                    what=what,
                    now=now if what == "relabel" else row["class"],
                    by=by,
                    when=date.today().isoformat(),
                    file=row["file"],
                )
            )
    return found


def _row(text: str, rows: Sequence[Mapping[str, str]], where: str, what: str) -> tuple[Mapping[str, str], str]:
    """The line that an image is named by, and the class that it shall have; names of files may have `=` in them."""
    parts = [(text, "")]
    if what == "relabel" and "=" in text:
        image, _, label = text.rpartition("=")
        parts.append((image, label))
    for image, label in parts:
        fitting = [row for row in rows if image in (row["image"], row["file"], row["file"].removeprefix("'"))]
        if len(fitting) > 1:
            raise SheetError(
                f"{image!r} is the name of {len(fitting)} images; use those in the column image of {where}."
            )
        if fitting:
            return fitting[0], label or fitting[0]["likely"]
    raise SheetError(
        f"{text!r} is no doubted image of {where}, and nothing is decided of it; `labels` without options lists both."
    )


def _table(rows: Sequence[Mapping[str, str]], where: str, decisions: Sequence[Decision]) -> Iterator[str]:
    decided = {one.content: one for one in decisions}
    doubted = {content(row["image"]) for row in rows}
    others = [one for one in decisions if one.content not in doubted]
    yield f"{len(rows)} labels are doubted ({where})" + (", the surest first:" if rows else ".")
    for row in rows[:SHOWN]:
        one = decided.get(content(row["image"]))
        said = f"  {one.what} by {one.by}, {one.when}" if one else ""
        yield f"  {row['gap']}  {row['class']} → {row['likely']}  {printable(row['file'] or row['image'])}{said}"
    if len(rows) > SHOWN:
        yield f"  {len(rows) - SHOWN} more; --save FILE writes them all."
    yield f"{len(decisions)} decided so far" + (", of images that are doubted no longer:" if others else ".")
    for one in others[:SHOWN]:
        now = f" → {one.now}" if one.what == "relabel" else ""
        yield f"  {one.what}  {one.label}{now}  {printable(one.file or one.image)}  by {one.by}, {one.when}"
