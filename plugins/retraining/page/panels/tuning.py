"""Was the search worth it? Its trials, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.page.documents import Documents
from retraining.page.panels.panel import Panel
from retraining.page.parallel import parallel


def view(run: Documents) -> Mapping[str, Any] | None:
    tuning = run.report.get("tuning")
    if not tuning or not tuning["trials"]:
        return None
    names = sorted({name for trial in tuning["trials"] for name in trial["hyperparameters"]})
    warm = tuning.get("warm_start") or {}
    return {
        "job": tuning["job"],
        "best": tuning["best"],
        "trials": tuning["trials"],
        "names": names,
        "warm": warm,
        "stopped": tuning.get("stopped"),
        "chart": parallel(tuning["trials"], tuning.get("inherited") or (), str(tuning["best"])),
    }


PANEL = Panel(
    key="tuning",
    title="Tuning",
    note="every trial of the search, ★ the one that was trained once more",
    tasks=("warm_start", "tune"),
    promise="Every trial with its hyperparameters and its objective, once the run has ended.",
    view=view,
)
