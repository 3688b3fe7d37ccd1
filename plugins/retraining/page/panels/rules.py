"""Was the training healthy? The Debugger's rules, and what to do about what they found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.page.documents import Documents
from retraining.page.panels.panel import Panel


def view(run: Documents) -> Mapping[str, Any] | None:
    rules = run.report.get("rules") or ()
    if not rules:
        return None
    return {
        "rules": sorted(rules, key=lambda rule: (rule["status"] == "NoIssuesFound", rule["rule"])),
        "advised": any(rule.get("advice") for rule in rules),
        "watched": run.report.get("debugger"),
    }


PANEL = Panel(
    key="rules",
    title="Debugger",
    note="what the rules that watched the training found",
    tasks=("evaluate_rules", "debugger_verdict"),
    promise="What each Debugger rule found and where it saw it.",
    view=view,
)
