"""What a person sees in a browser: `/`, the newest of each kind, `/jobs/<kind>`, all of one, and one of them whole.

Read-only HTML, without signature; where other machines can reach it, with the key (app.py). The values of environments
are left out: that is where secrets are, and whoever has the key can ask for them. Nothing comes from elsewhere, and
what jobs print (and name themselves) stays text: html.py escapes it, and the page's policy runs no script but page.js.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import HTMLResponse

from local_sagemaker.pages import lines
from local_sagemaker.pages.frame import page
from local_sagemaker.pages.html import Html, join, tag
from local_sagemaker.pages.lines import KINDS, Kind
from local_sagemaker.settings import Settings
from local_sagemaker.state.logs import Logs
from local_sagemaker.state.store import Record, Store
from local_sagemaker.tuning import tuning_job
from local_sagemaker.wire.errors import ApiError

_NEWEST = 12
_PAGE = 200
_LOG_LINES = 300
_LINE = 160
_CURVE_POINTS = 300


def index(store: Store, settings: Settings, logs: Logs) -> HTMLResponse:
    """The newest of each kind that there is."""
    sections = [_section(store, logs, word) for word in KINDS]
    nothing = tag("p", "Nothing yet. The first job, model or endpoint that a client creates appears here by itself.")
    about = tag("p", f"{settings.url} · account {settings.account} · {settings.region}", class_="quiet")
    return page("local_sagemaker", join(about, *(sections if any(sections) else [nothing])), busy=_is_busy(store))


def listing(store: Store, logs: Logs, word: str, number: str = "1") -> HTMLResponse:
    """All of a kind, newest first, in pages of 200."""
    kind = _kind(word)
    if not (number.isascii() and number.isdigit() and 0 < int(number) < 10_000):
        raise ApiError("ResourceNotFound", f"there is no page '{number:.20}'", 404)
    first = (int(number) - 1) * _PAGE
    selection = store.list(kind.name)
    records = selection.page(order="created", descending=True, limit=first + _PAGE + 1)[first:]
    links = [
        tag("a", label, href=f"/jobs/{word}?page={target}")
        for label, target, there in (
            ("← newer", int(number) - 1, first > 0),
            ("older →", int(number) + 1, len(records) > _PAGE),
        )
        if there
    ]
    table = _table(logs, word, records[:_PAGE]) if records else tag("p", "none", class_="quiet")
    return page(f"{kind.title} ({len(selection)})", join(table, tag("p", *links, class_="pages")), busy=False)


def job(store: Store, logs: Logs, word: str, name: str) -> HTMLResponse:
    """One record: its status, what it made, its curves, its last log lines, its Describe answer."""
    kind = _kind(word)
    record = store.get(kind.name, name)
    if record is None:
        raise ApiError("ResourceNotFound", f"there is no {kind.name} '{name:.200}'", 404)
    parts = [tag("p", lines.status(record), " ", tag("span", lines.detail(record), class_="quiet"))]
    if reason := record.describe.get("FailureReason"):
        parts.append(tag("pre", reason, class_="reason"))
    parts.append(_facts(record))
    if word == "tuning":
        parts.append(_children(store, logs, record))
    if word == "endpoint":
        parts.append(_variants(record))
    parts.append(_curves(record))
    if printed := kind.log(logs, record, _LOG_LINES):
        parts.append(join(tag("h2", "Last log lines"), tag("pre", "\n".join(printed), class_="log")))
    describe = tag("pre", json.dumps(lines.without_secrets(record.describe), indent=2, ensure_ascii=False))
    parts.append(tag("details", tag("summary", "Describe"), describe))
    return page(f"{kind.singular} {name}", join(*parts), busy=lines.is_busy(record))


def _kind(word: str) -> Kind:
    if word not in KINDS:
        raise ApiError("ResourceNotFound", f"there is no page of '{word:.60}'; there are: {', '.join(KINDS)}", 404)
    return KINDS[word]


def _is_busy(store: Store) -> bool:
    return any(
        len(store.list(kind.name).where(f"status IN ({', '.join('?' * len(lines.BUSY))})", *lines.BUSY))
        for kind in KINDS.values()
    )


def _section(store: Store, logs: Logs, word: str) -> Html:
    """Empty where there is none of that kind."""
    selection = store.list(KINDS[word].name)
    count = len(selection)
    if not count:
        return Html("")
    newest = selection.page(order="created", descending=True, limit=_NEWEST)
    more = tag("p", tag("a", f"all {count}", href=f"/jobs/{word}"), class_="quiet") if count > _NEWEST else ""
    return join(tag("h2", KINDS[word].title), _table(logs, word, newest), more)


def _table(logs: Logs, word: str, records: list[Record]) -> Html:
    """What is running shows the last line it printed."""
    rows = (
        tag(
            "tr",
            tag("td", tag("a", record.name, href=f"/jobs/{word}/{lines.quoted(record.name)}")),
            tag("td", lines.status(record)),
            tag("td", lines.detail(record), *_last_line(logs, word, record), class_="wide"),
            tag("td", lines.duration(record), class_="quiet number"),
            tag("td", lines.ago(record.created), class_="quiet number", title=lines.moment(record.created)),
        )
        for record in records
    )
    return tag("div", tag("table", tag("tbody", *rows)), class_="scroll")


def _last_line(logs: Logs, word: str, record: Record) -> list[Html]:
    printed = KINDS[word].log(logs, record, 1) if lines.is_busy(record) else []
    return [tag("div", line[:_LINE], class_="quiet") for line in printed]


def _facts(record: Record) -> Html:
    pairs = lines.facts(record)
    return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in pairs)) if pairs else Html("")


def _children(store: Store, logs: Logs, record: Record) -> Html:
    children = tuning_job.children(store, record)
    children.reverse()
    if not children:
        return Html("")
    return join(tag("h2", f"Training jobs ({len(children)})"), _table(logs, "training", children[:_PAGE]))


def _variants(record: Record) -> Html:
    variants = record.describe.get("ProductionVariants", [])
    total = sum(variant.get("CurrentWeight", 0) for variant in variants) or 1
    rows = (
        tag(
            "tr",
            tag("td", variant["VariantName"]),
            tag("td", tag("meter", value=f"{variant.get('CurrentWeight', 0) / total:.3f}"), class_="number"),
            tag("td", f"{variant.get('CurrentWeight', 0) / total:.0%} of requests", class_="number"),
            tag(
                "td", f"{variant.get('CurrentInstanceCount', 0)} of {variant.get('DesiredInstanceCount', 0)} instances"
            ),
            tag("td", *(note.get("Status", "") for note in variant.get("VariantStatus", [])), class_="quiet wide"),
        )
        for variant in variants
    )
    return join(tag("h2", "Variants"), tag("div", tag("table", tag("tbody", *rows)), class_="scroll"))


def _curves(record: Record) -> Html:
    """A small picture of each metric over the job's time."""
    series: dict[str, Any] = record.internal.get("metrics", {})
    figures = [
        tag("figure", tag("figcaption", name, " ", tag("b", f"{points[-1][1]:.6g}")), _curve(points[-_CURVE_POINTS:]))
        for name, points in sorted(series.items())
        if points
    ]
    return join(tag("h2", "Metrics"), tag("div", *figures, class_="curves")) if figures else Html("")


def _curve(points: list[list[float]]) -> Html:
    values = [point[1] for point in points]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = 200 / max(1, len(values) - 1)
    # NaN and infinity have no height; they are left out.
    path = " ".join(
        f"{index * step:.1f},{42 - 40 * (value - low) / span:.1f}"
        for index, value in enumerate(values)
        if (value - low) / span == (value - low) / span and abs(value) < 1e300
    )
    line = tag("polyline", points=path)
    return tag("svg", line, viewBox="0 0 200 44", preserveAspectRatio="none", role="img")
