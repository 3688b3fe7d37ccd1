"""labels.csv: labels that are doubted, a line each, with room for what a person decides. Pure: text in, text out.

    image,file,split,class,likely,gap,decision,by,when
    cat/1f0c….png,cats/IMG_12.jpg,train,cat,dog,0.93,relabel,ann,2026-11-29

`decision` is relabel (to `likely`, which may be edited), keep (the label is right; it is not asked again) or remove
(the picture is in no class). An empty one decides nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date

from retraining.dataset.labels.suspects import Suspect, content

COLUMNS = ("image", "file", "split", "class", "likely", "gap", "decision", "by", "when")
NEEDED = ("image", "class", "decision", "by", "when")
DECISIONS = ("relabel", "keep", "remove")
MAX_BYTES = 16 * 2**20
MAX_BY = 100
FORMULA = ("=", "+", "-", "@", "\t")
"""What a spreadsheet takes for the beginning of a formula."""


class SheetError(ValueError):
    """A labels.csv that cannot be gone by."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a person said of one image."""

    image: str
    """Its name in the manifests when it was doubted."""
    label: str
    what: str
    """One of DECISIONS."""
    now: str
    """The class that it has from now on; of the others the same as `label`."""
    by: str
    when: str
    """The day, YYYY-MM-DD."""
    file: str = ""
    """For people."""

    @property
    def content(self) -> str:
        """Names the image's bytes, whatever class they are in."""
        return content(self.image)


def proposals(suspects: Iterable[Suspect], files: Mapping[str, str]) -> str:
    """The sheet of suspects; `files` is how the source calls images."""
    rows = [
        {
            "image": one.image,
            "file": _cell(files.get(one.image, "")),
            "split": one.split,
            "class": one.label,
            "likely": one.likely,
            "gap": f"{one.gap:.4f}",
        }
        for one in suspects
    ]
    return _written(rows)


def decided(decisions: Iterable[Decision]) -> str:
    """The sheet of decisions, in the order of the images."""
    rows = [
        {
            "image": one.image,
            "file": _cell(one.file),
            "class": one.label,
            "likely": one.now if one.what == "relabel" else "",
            "decision": one.what,
            "by": one.by,
            "when": one.when,
        }
        for one in sorted(decisions, key=lambda one: one.image)
    ]
    return _written(rows)


def read(text: bytes, where: str) -> list[Decision]:
    """The decisions of a sheet, one for each image; SheetError names the line of `where` that is none."""
    if len(text) > MAX_BYTES:
        raise SheetError(f"{where} has {len(text):,} bytes; at most {MAX_BYTES:,} are read.")
    try:
        lines = csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline=""), strict=True)
        if missing := [name for name in NEEDED if name not in (lines.fieldnames or ())]:
            raise SheetError(f"{where} has no column {', '.join(missing)}; its first line names {','.join(COLUMNS)}.")
        found: dict[str, Decision] = {}
        for row in lines:
            decision = _decision(row, f"{where}, line {lines.line_num}")
            if decision is None:
                continue
            before = found.setdefault(decision.content, decision)
            if (before.what, before.now) != (decision.what, decision.now):
                raise SheetError(
                    f"{where}, line {lines.line_num}: {decision.image} is decided twice, {before.what} and "
                    f"{decision.what}; remove one."
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise SheetError(f"{where} is no CSV in UTF-8: {error}.") from error
    return list(found.values())


def merged(before: Iterable[Decision], new: Iterable[Decision]) -> list[Decision]:
    """What holds after newer decisions, one for each image.

    A newer one names the class that the image has by then, the source still the one that it had at first.
    """
    found = {one.content: one for one in before}
    for one in new:
        was = found.get(one.content)
        found[one.content] = one if was is None or was.label == one.label else _on_top(was, one)
    return list(found.values())


def _on_top(was: Decision, one: Decision) -> Decision:
    if was.what != "relabel" or was.now != one.label or one.what == "keep":
        return was if one.what == "keep" else one
    what = "keep" if one.now == was.label else one.what
    now = one.now if what == "relabel" else was.label
    return replace(one, image=was.image, label=was.label, what=what, now=now)


def _decision(row: Mapping[str, str | None], where: str) -> Decision | None:
    value = {name: (row.get(name) or "").strip() for name in COLUMNS}
    what, label = value["decision"].lower(), value["class"]
    if not what:
        return None
    if what not in DECISIONS:
        raise SheetError(f"{where}: decision {what!r} is none of {', '.join(DECISIONS)}.")
    if not value["by"] or len(value["by"]) > MAX_BY or not value["by"].isprintable():
        raise SheetError(f"{where}: 'by' has to say who decided, in at most {MAX_BY} characters.")
    try:
        when = date.fromisoformat(value["when"][:10]).isoformat()
    except ValueError:
        raise SheetError(f"{where}: 'when' is {value['when']!r}; it has to be a day like 2026-11-29.") from None
    if "/" not in value["image"] or not label:
        raise SheetError(f"{where}: 'image' and 'class' have to be those of the proposal; got {value['image']!r}.")
    now = value["likely"] if what == "relabel" else label
    if what == "relabel" and now in ("", label):
        raise SheetError(f"{where}: relabel needs another class in 'likely' than {label!r}; got {now!r}.")
    return Decision(
        image=value["image"], label=label, what=what, now=now, by=value["by"], when=when, file=value["file"]
    )


def _written(rows: Iterable[Mapping[str, str]]) -> str:
    out = io.StringIO()
    table = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text
