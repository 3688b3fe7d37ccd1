"""Where did the time go? Three bars (steps, the phases within them, the machine), and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retraining.page.documents import Documents
from retraining.page.figures import number
from retraining.page.panels.panel import Panel

WIDTH = 1000
"""Of a bar, in its units."""
COLOURS = 5
"""Parts of a bar that are told apart by colour; what is left is drawn as the rest."""
NAMES = {
    "Step:ModeKeys.TRAIN": "training steps",
    "Step:ModeKeys.EVAL": "validation steps",
    "others": "between steps",
    "DataLoaderIter": "waiting for data",
    "DataLoaderWorker": "loading in workers",
    "DataLoaderIterInitialize": "starting the loaders",
    "Preparation": "preparing images",
    "Forward": "forward",
    "Forward-SubModuleInternal": "forward, by layer",
    "Backward(post-forward)": "backward",
    "Backward-SubModuleInternal": "backward, by layer",
    "Optimizer": "optimizer",
}
"""Of Debugger's phases, in words; those that a script names itself stay as they are."""
PERCENT = ("CPU", "GPU", "CPU memory", "GPU memory", "I/O")


def view(run: Documents) -> Mapping[str, Any] | None:
    found = run.report.get("profiler")
    if not found:
        return None
    time = found.get("time") or {}
    bars = [
        {"title": title, "parts": parts}
        for title, shares in (("Steps", time.get("steps")), ("Within them", time.get("phases")))
        if (parts := _parts(shares or {}))
    ]
    return {
        "bars": bars,
        "machine": [row for name in PERCENT if (row := _load(name, (found.get("usage") or {}).get(name) or {}))],
        "waiting": number(found.get("waiting_percent")),
        "advice": found.get("advice") or [{"rule": rule} for rule in found.get("triggered", ())],
        "html": found.get("html"),
        "width": WIDTH,
    }


def _parts(shares: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Of one bar, the largest first; they fill it, whatever they add up to."""
    known = sorted(((value, name) for name, share in shares.items() if (value := number(share))), reverse=True)
    total, at = sum(value for value, _ in known), 0.0
    parts = []
    for place, (value, name) in enumerate(known):
        width = WIDTH * value / total
        colour = place + 1 if place < COLOURS else 0
        parts.append({"name": NAMES.get(name, name), "share": value / total, "x": at, "width": width, "colour": colour})
        at += width
    return parts


def _load(name: str, told: Mapping[str, Any]) -> dict[str, Any] | None:
    """How much of a device was used, in percent: in the middle of the time, and most of it."""
    middle, most = number(told.get("p50")), number(told.get("p95"))
    if middle is None or most is None:
        return None
    return {"name": "waiting for the disk" if name == "I/O" else name, "middle": middle, "most": most}


PANEL = Panel(
    key="profiler",
    title="Profiler",
    note="where the training's time went, and how busy the machine was",
    tasks=("profiler_report",),
    promise="Where the time of the training went, how busy the machine was, and what to change.",
    view=view,
)
