"""What did it cost? Money and time by task, beside what it could have cost at most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.page.documents import Documents
from retraining.page.panels.panel import Panel


def view(run: Documents) -> Mapping[str, Any] | None:
    billed, ceiling = run.report.get("billed"), run.report.get("ceiling")
    jobs: dict[str, list[Mapping[str, Any]]] = {}
    for row in (billed or {}).get("tasks", ()):
        jobs.setdefault(row["task"], []).append(row)
    ran = [
        task
        for task in run.record.tasks
        if task.state not in ("skipped", "removed") and (task.seconds is not None or task.task_id in jobs)
    ]
    if not ran and not billed:
        return None
    longest = max((task.seconds or 0 for task in ran), default=0) or 1
    rows = [
        {"task": task, "share": 100 * (task.seconds or 0) / longest, "jobs": jobs.get(task.task_id, ())} for task in ran
    ]
    return {"rows": rows, "billed": billed, "ceiling": ceiling, "seconds": run.record.seconds}


PANEL = Panel(
    key="cost",
    title="Cost and time",
    note="by task, in the order they began; billed is what SageMaker says",
    tasks=("preflight", "prune"),
    promise="What each task took, and what its jobs were billed.",
    view=view,
)
