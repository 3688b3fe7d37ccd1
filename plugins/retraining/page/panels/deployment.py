"""Is it really live? What the endpoint was asked to serve, and how it answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.page.documents import Documents
from retraining.page.panels.panel import Panel
from retraining.report import canary_said, elsewhere_said

STEPS = ("shadow", "register", "create_endpoint_config", "deploy", "smoke_test", "update_champion", "rollback")


def view(run: Documents) -> Mapping[str, Any] | None:
    endpoint, shadow, canary = (run.report.get(key) for key in ("endpoint", "shadow", "canary"))
    found = {task.task_id: task for task in run.record.tasks}
    deploy = found["deploy"].state if "deploy" in found else None
    if not (endpoint or shadow or canary or deploy == "failed"):
        return None
    return {
        "endpoint": endpoint,
        "failed": deploy == "failed",
        "shadow": shadow,
        "canary": canary and canary_said(canary),
        "wrong": canary and canary["wrong"],
        "smoke": run.report.get("smoke_test"),
        "elsewhere": [elsewhere_said(one) for one in run.report.get("elsewhere") or ()],
        "package": run.report.get("model_package_arn"),
        "approved_by": run.report.get("approved_by"),
        "taken_back": "rollback" in found and found["rollback"].state == "success",
        "steps": [found[step] for step in STEPS if step in found and found[step].state != "skipped"],
    }


PANEL = Panel(
    key="deployment",
    title="Deployment",
    note="asked, served and tried",
    tasks=("shadow_requests", "shadow_candidate", "shadow_champion", *STEPS),
    promise="What the endpoint was asked to serve, and what it answered, where a candidate is promoted.",
    view=view,
)
