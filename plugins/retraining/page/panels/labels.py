"""Labels that the run's models doubt: a picture each, what it is called, what they take it for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retraining.page.documents import Documents
from retraining.page.panels.images import card
from retraining.page.panels.panel import Panel


def view(run: Documents) -> Mapping[str, Any] | None:
    if not run.labels:
        return None
    cards = [card(each) for each in run.labels.get("suspects") or () if isinstance(each, Mapping)]
    recipe = str(run.record.recipe or "")
    return {
        "cards": cards,
        "count": run.labels.get("count", len(cards)),
        "judged": run.labels.get("judged", 0),
        "unjudged": run.labels.get("unjudged") or (),
        "sheet": run.labels.get("sheet", ""),
        "decisions": run.labels.get("decisions", ""),
        "command": f"python -m retraining.dataset labels {recipe} --relabel IMAGE … --keep IMAGE … --by NAME",
    }


PANEL = Panel(
    key="labels",
    title="Labels",
    note="images that may be in the wrong class; nothing is changed before a person decides",
    tasks=(),
    promise="The images whose label the models doubt, once the candidate was scored.",
    view=view,
)
