"""Documents to HTML: pages for the API server, and the same report as one file for e-mail and archives.

Names of classes and files are strangers' text: all of it is escaped.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from retraining.page import figures
from retraining.page.documents import Documents
from retraining.page.headline import headline
from retraining.page.panels import PANELS
from retraining.page.panels.panel import Panel
from retraining.report import serves_said

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
FILTERS = (
    "score", "signed", "signed_count", "count", "duration", "money", "day", "moment", "sentence", "task_state", "short",
    "percent", "without_condition",
)  # fmt: skip


def report(run: Documents, section: str = "", **values: Any) -> bytes:
    """The report of one run, from its documents alone; opened at a section."""
    shown = [(panel, _view(panel, run)) for panel in PANELS]
    word, text = headline(run.report)
    told = {"run": run, "report": run.report, "panels": shown, "word": word, "text": text, "section": section}
    told["serves"] = serves_said(run.report["serves"]) if run.report.get("serves") else ""
    return render("run.html", **told, **values)


def one_file(run: Documents) -> bytes:
    """The same with its style and pictures in it, and without script: nothing else is ever asked for."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return report(run, style=style, style_digest=f"sha256-{digest}")


def render(template: str, **values: Any) -> bytes:
    """UTF-8; what is no text is shown as such."""
    return _templates().get_template(template).render(**values).encode("utf-8", "backslashreplace")


def _view(panel: Panel, run: Documents) -> Mapping[str, Any] | None:
    """What a panel found; one that cannot read what an earlier version left does not take the page with it."""
    try:
        return panel.view(run)
    except (AttributeError, LookupError, TypeError, ValueError):
        log.exception("Panel %s cannot read what run %s left.", panel.key, run.record.run_id)
        return None


@functools.cache
def _style() -> str:
    """The pages' own, where the reader's system and not Airflow's switch says whether it is dark."""
    style = (HERE / "static/page.css").read_text()
    dark = next(line for line in style.splitlines() if line.startswith(":root.dark"))
    system = f"@media (prefers-color-scheme: dark) {{ {dark.replace(':root.dark', ':root')} }}"
    return style.replace(dark, system)


@functools.cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,  # a report of an earlier version lacks what later ones tell
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {name: getattr(figures, name) for name in FILTERS} | {"quote": partial(quote, safe="")}
    return made
