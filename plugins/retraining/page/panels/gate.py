"""Promoted? Why? How sure? Each rule of the recipe, its value, its bound and its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.page.documents import Documents
from retraining.page.panels.panel import Panel


def view(run: Documents) -> Mapping[str, Any] | None:
    checks = run.report.get("gate") or ()
    return {"checks": checks, "uncompared": run.report.get("uncompared") or ()} if checks else None


PANEL = Panel(
    key="gate",
    title="Why",
    note="every rule of the recipe, what was found and what was asked for",
    tasks=("compare", "approve"),
    promise="Each rule of the gate with its value, its bound and its verdict, once the candidate is compared.",
    view=view,
)
