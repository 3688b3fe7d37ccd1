"""What was trained on: images for each class and split, and what was kept out, with the reason and a small picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from retraining.dataset.split import SPLITS
from retraining.dataset.summary import notes_on
from retraining.page.documents import Documents
from retraining.page.panels.images import A_PICTURE
from retraining.page.panels.panel import Panel

SHOWN = 48
WORDS = {
    "CORRUPT": "Damaged",
    "DECODER_DIED": "Ends its decoder",
    "EMPTY": "Empty",
    "FORMAT": "In a format that is not read",
    "LABEL_CONFLICT": "The same file in several classes",
    "NEAR_LABEL_CONFLICT": "Nearly the same picture in several classes",
    "NOT_IMAGE": "No image",
    "NOT_REGULAR": "No file of its own",
    "TOO_BIG_BYTES": "Too many bytes",
    "TOO_LARGE": "Too many pixels",
    "TOO_MANY_CHUNKS": "Too many parts",
    "TOO_MANY_SCANS": "Too many scans",
    "TOO_MANY_SEGMENTS": "Too many parts",
    "TOO_MUCH_MEMORY": "Takes too much memory",
    "TOO_SLOW": "Takes too long to decode",
    "TOO_SMALL": "Too few pixels",
    "TRUNCATED": "Cut off",
    "UNREADABLE": "Cannot be read",
}


def view(run: Documents) -> Mapping[str, Any] | None:
    dataset = run.report.get("dataset")
    if not dataset:
        return None
    # A report names them by the alphabet.
    counts = {split: dataset["counts"][split] for split in (*SPLITS, *dataset["counts"]) if split in dataset["counts"]}
    labels = sorted({label for of_class in counts.values() for label in of_class})
    rows = [{"label": label, "counts": [of_class.get(label, 0) for of_class in counts.values()]} for label in labels]
    # A version of an earlier package has a list without pictures.
    listed = (run.dataset or {}).get("quarantined") or ()
    told = run.kept_out or {"files": listed, "codes": Counter(str(file.get("code")) for file in listed)}
    files = (told.get("files") or ())[:SHOWN]
    return {
        "fingerprint": dataset["fingerprint"],
        "splits": list(counts),
        "totals": [sum(of_class.values()) for of_class in counts.values()],
        "rows": rows,
        "strips": _strips(run.strips or {}),
        "notes": [note.replace("`", "") for note in notes_on(dataset)],
        "kept_out": dataset["quarantined"],
        "groups": [_group(code, count, files) for code, count in (told.get("codes") or {}).items()],
    }


def _strips(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What some images of each class look like; each strip is asked for by its place among all."""
    classes = enumerate(told.get("classes") or ())
    return [
        {"label": one["label"], "count": one["count"], "shown": one["shown"], "place": place}
        for place, one in classes
        if one.get("strip")
    ]


def _group(code: str, count: int, files: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """All that was kept out for the same reason, with those files of it that are shown."""
    cards = [_card(file) for file in files if file.get("code") == code]
    return {"code": code, "words": WORDS.get(code, "Kept out"), "count": count, "cards": cards}


def _card(file: Mapping[str, Any]) -> dict[str, Any]:
    picture = str(file.get("picture") or "")
    return {
        "name": file.get("name", ""),
        "label": file.get("class", ""),
        "detail": file.get("detail", ""),
        "picture": picture if A_PICTURE.fullmatch(picture) else "",
    }


PANEL = Panel(
    key="data",
    title="Data",
    note="images for each class and split",
    tasks=("list_images", "verify_images", "sync_dataset", "needs_retraining"),
    promise="How many images of each class are trained on and tested with, and what was kept out and why.",
    view=view,
)
