"""Can I do it again? What this model is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.page.documents import Documents
from retraining.page.panels.panel import Panel


def view(run: Documents) -> Mapping[str, Any] | None:
    preflight, packed = run.facts.get("preflight") or {}, run.facts.get("package_source") or {}
    if not preflight:
        return None
    images = preflight.get("images") or {}
    rows = {
        "run": run.report["run_name"],
        "data": (run.report.get("dataset") or {}).get("fingerprint"),
        "code": preflight.get("code"),
        "source archive": packed.get("uri"),
        "recipe": preflight.get("recipe"),
        **{f"{name.replace('_', ' ')} image": uri for name, uri in images.items() if isinstance(uri, str)},
    }
    return {"rows": [(name, value) for name, value in rows.items() if value]}


PANEL = Panel(
    key="reproduce",
    title="Reproduce",
    note="digests and addresses of all that this run was made from",
    tasks=("package_source",),
    promise="The digests of data, code and recipe, and the container images.",
    view=view,
)
