"""Is it healthy? The runs before this one: what became of each, and how accurate what serves became."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.page.chart import chart
from retraining.page.documents import Documents
from retraining.page.panels.panel import Panel

MOST = 13
"""Runs in the chart: this one, and a quarter of a year of weeks before it."""
TOLD = 5
"""Of these, in words."""


def view(run: Documents) -> Mapping[str, Any] | None:
    """None for the first run, and where Airflow's database is not at hand, as in the file in S3."""
    if len(run.weeks) < 2:
        return None
    return {
        "chart": chart(run.weeks),
        "lines": run.weeks[:TOLD],
        "dag_id": run.record.dag_id,
        "run_id": run.record.run_id,
    }


PANEL = Panel(
    key="lately",
    title="Last weeks",
    note="this run and those before it",
    tasks=(),
    promise="The runs before this one, from the second run on; shown in Airflow.",
    view=view,
)
