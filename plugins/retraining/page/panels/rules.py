"""Was the training healthy? The Debugger's rules, what they judged, and what to do about what they found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.page.documents import Documents
from retraining.page.evidence import evidence
from retraining.page.panels.panel import Panel


def view(run: Documents) -> Mapping[str, Any] | None:
    rules = run.report.get("rules") or ()
    if not rules:
        return None
    first = sorted(rules, key=lambda rule: (rule["status"] == "NoIssuesFound", rule["rule"]))
    return {
        "rules": [dict(rule) | _judged(rule, run.series) for rule in first],
        "advised": any(rule.get("advice") for rule in rules),
        "watched": run.report.get("debugger"),
    }


PROFILER_REPORT = "ProfilerReport"
NOT_TOLD = "SageMaker judged this rule itself, and tells no numbers that could be drawn."
NO_NUMBERS = "This rule follows no number from step to step: there is nothing to draw."


def _judged(rule: Mapping[str, Any], series: Mapping[str, Any] | None) -> dict[str, Any]:
    """The chart of an issue, or why there is none; nothing in a run that goes on, or is of an earlier version."""
    name = rule["rule"]
    if series is None or rule["status"] != "IssuesFound" or name == PROFILER_REPORT:
        return {}
    if name not in series:
        return {"undrawn": NOT_TOLD}
    chart = evidence(series[name])
    return {"chart": chart} if chart else {"undrawn": NO_NUMBERS}


PANEL = Panel(
    key="rules",
    title="Debugger",
    note="what the rules that watched the training found",
    tasks=("evaluate_rules", "debugger_verdict"),
    promise="What each Debugger rule found and where it saw it.",
    view=view,
)
