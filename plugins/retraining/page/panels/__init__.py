"""The panels of the report, in the order in which people ask. A new one is a module, a template, and its line here."""

from __future__ import annotations

from retraining.page.panels import (
    certainty,
    classes,
    confusions,
    cost,
    data,
    deployment,
    gate,
    images,
    labels,
    lately,
    profiler,
    reproduce,
    rules,
    training,
    tuning,
)
from retraining.page.panels.panel import Panel

PANELS: tuple[Panel, ...] = tuple(
    module.PANEL
    for module in (
        gate,
        images,
        classes,
        confusions,
        lately,
        data,
        labels,
        tuning,
        training,
        rules,
        profiler,
        certainty,
        deployment,
        cost,
        reproduce,
    )
)


def section_of(task_id: str) -> str:
    """The panel that a task's tab opens at; empty for the beginning of the page."""
    return next((panel.key for panel in PANELS if task_id in panel.tasks), "")
