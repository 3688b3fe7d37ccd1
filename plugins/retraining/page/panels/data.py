"""What was trained on: images for each class and split, and what was kept out, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.dataset.summary import notes_on
from retraining.page.documents import Documents
from retraining.page.panels.panel import Panel

SHOWN = 50


def view(run: Documents) -> Mapping[str, Any] | None:
    dataset = run.report.get("dataset")
    if not dataset:
        return None
    counts = dataset["counts"]
    labels = sorted({label for of_class in counts.values() for label in of_class})
    rows = [{"label": label, "counts": [of_class.get(label, 0) for of_class in counts.values()]} for label in labels]
    quarantined = (run.dataset or {}).get("quarantined") or ()
    return {
        "fingerprint": dataset["fingerprint"],
        "splits": list(counts),
        "totals": [sum(of_class.values()) for of_class in counts.values()],
        "rows": rows,
        "notes": [note.replace("`", "") for note in notes_on(dataset)],
        "quarantined": quarantined[:SHOWN],
        "kept_out": dataset["quarantined"],
    }


PANEL = Panel(
    key="data",
    title="Data",
    note="images for each class and split",
    tasks=("list_images", "verify_images", "sync_dataset", "needs_retraining"),
    promise="How many images of each class are trained on and tested with, and what was kept out and why.",
    view=view,
)
