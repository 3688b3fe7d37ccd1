"""What a person sees in a browser: `/`, the newest jobs and endpoints, and `/jobs/<kind>/<name>`, one of them whole.

Read-only HTML, without signature: it shows what anyone on this machine could read in the state folder's logs. There is
no script in it, so what jobs print (and name themselves) stays text.
"""

from __future__ import annotations

import json
import time
from html import escape
from typing import Any

from starlette.responses import HTMLResponse

from local_sagemaker.hosting.endpoint import KIND as ENDPOINT
from local_sagemaker.jobs import training_job, transform_job
from local_sagemaker.jobs.life import TERMINAL
from local_sagemaker.platform import Platform
from local_sagemaker.state import logs
from local_sagemaker.state.store import Record
from local_sagemaker.tuning import tuning_job
from local_sagemaker.wire.errors import ApiError

#: The word in a page's address → the kind of record and the log group of its streams.
KINDS = {
    "training": (training_job.KIND, logs.TRAINING_JOBS),
    "tuning": (tuning_job.KIND, logs.TRAINING_JOBS),
    "transform": (transform_job.KIND, logs.TRANSFORM_JOBS),
    "endpoint": (ENDPOINT, None),
}
_TITLES = {
    "endpoint": "Endpoints",
    "tuning": "Tuning jobs",
    "training": "Training jobs",
    "transform": "Transform jobs",
}
_ROWS = 30
_LOG_LINES = 300

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem } a { color: inherit }
table { border-collapse: collapse; width: 100% } tr { border-top: 1px solid var(--line) } .quiet { opacity: .65 }
td { padding: .3rem .8rem .3rem 0; vertical-align: top; white-space: nowrap } td:nth-child(3) { white-space: normal }
pre { overflow: auto; padding: .8rem; border: 1px solid var(--line); border-radius: 6px; font-size: 13px }
.Failed { color: #c62828 } .Completed, .InService { color: #2e7d32 }
.InProgress, .Creating, .Updating { color: #b26a00 }
@media (prefers-color-scheme: dark) { .Failed { color: #ff8a80 } .Completed, .InService { color: #81c784 }
.InProgress, .Creating, .Updating { color: #ffb74d } }
"""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
}


def index(platform: Platform) -> HTMLResponse:
    """The newest records of each kind."""
    sections = [_section(word, list(reversed(platform.store.list(KINDS[word][0])))) for word in _TITLES]
    settings = platform.settings
    about = f'<p class="quiet">{escape(settings.url)} · account {settings.account} · {escape(settings.region)}</p>'
    return _page("local_sagemaker", about + "".join(sections), refresh_s=5)


def job(platform: Platform, word: str, name: str) -> HTMLResponse:
    """One record: its status, its training jobs if it is a tuning job, its last log lines, its Describe answer."""
    if word not in KINDS:
        raise ApiError("ResourceNotFound", f"there is no page of '{word}'; there are: {', '.join(KINDS)}", 404)
    kind, group = KINDS[word]
    record = platform.store.get(kind, name)
    if record is None:
        raise ApiError("ResourceNotFound", f"there is no {kind} '{name}'", 404)
    parts = [f'<p class="{_status(record)}">{_status(record)}</p>']
    if reason := record.describe.get("FailureReason"):
        parts.append(f"<pre>{escape(reason)}</pre>")
    if word == "tuning":
        parts.append(_section("training", tuning_job.children(platform, record)))
    if word == "endpoint":
        lines = platform.logs.tail(f"{logs.ENDPOINTS}/{name}", "", _LOG_LINES)
    else:
        lines = platform.logs.tail(str(group), f"{name}/", _LOG_LINES)
    if lines:
        parts.append(f"<h2>Last log lines</h2><pre>{escape(chr(10).join(lines))}</pre>")
    parts.append(f"<h2>Describe</h2><pre>{escape(json.dumps(record.describe, indent=2))}</pre>")
    running = record.status not in {*TERMINAL, "InService"}
    return _page(f"{word} {name}", "".join(parts), refresh_s=3 if running else None)


def _section(word: str, records: list[Record]) -> str:
    rows = "".join(
        f'<tr><td><a href="/jobs/{word}/{escape(record.name)}">{escape(record.name)}</a></td>'
        f'<td class="{_status(record)}">{_status(record)}</td><td>{escape(_detail(record))}</td>'
        f'<td class="quiet">{time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))}</td></tr>'
        for record in records[:_ROWS]
    )
    more = f'<p class="quiet">{len(records) - _ROWS} older ones</p>' if len(records) > _ROWS else ""
    return f"<h2>{_TITLES[word]}</h2>" + (f"<table>{rows}</table>{more}" if rows else '<p class="quiet">none yet</p>')


def _status(record: Record) -> str:
    return escape(str(record.status))


def _detail(record: Record) -> str:
    describe: dict[str, Any] = record.describe
    if best := describe.get("BestTrainingJob"):
        metric = best.get("FinalHyperParameterTuningJobObjectiveMetric", {})
        return f"best {metric.get('MetricName')} {metric.get('Value', 0):.4f}"
    if record.kind == ENDPOINT:
        return f"serves {describe.get('EndpointConfigName')}"
    metrics = describe.get("FinalMetricDataList", [])
    if metrics:
        return ", ".join(
            f"{item['MetricName']} {item['Value']:.4f}" for item in metrics if "validation" in item["MetricName"]
        )
    return str(describe.get("SecondaryStatus", ""))


def _page(title: str, body: str, refresh_s: int | None) -> HTMLResponse:
    refresh = f'<meta http-equiv="refresh" content="{refresh_s}">' if refresh_s else ""
    home = "" if title == "local_sagemaker" else '<p><a href="/">← all jobs</a></p>'
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>{refresh}'
        f"<style>{_STYLE}</style></head><body>{home}<h1>{escape(title)}</h1>{body}</body></html>",
        headers=_HEADERS,
    )
