"""The runs of one DAG, week by week: what was decided, why, and how accurate what serves became."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from retraining.page.airflow_runs import RunRecord
from retraining.page.documents import Shelf, name_of, run_key
from retraining.page.headline import headline

log = logging.getLogger(__name__)

MOST = 104
"""Runs on the page: two years of weeks."""
THREADS = 10  # as many connections as a boto3 client keeps
WIDTH, HEIGHT, MARGIN = 1100, 120, 12
"""Of the chart, in its own units."""


def read_weeks(shelf: Shelf, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """A line for each run, in their order."""

    def read(record: RunRecord) -> dict[str, Any]:
        if not record.reported:
            return line(record, None)
        report = shelf.optional(f"{run_key(record.recipe or '', name_of(record, shelf.bucket))}/report.json")
        try:
            return line(record, report)
        except (AttributeError, LookupError, TypeError, ValueError):
            log.exception("The report of run %s cannot be read.", record.run_id)
            return line(record, None)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(read, records))


def line(record: RunRecord, report: Mapping[str, Any] | None) -> dict[str, Any]:
    """One run; of one without a report only what Airflow knows."""
    if report is None:
        return {"record": record, **_unreported(record), "accuracy": None, "was": None, "images": None, "usd": None}
    counts = (report.get("dataset") or {}).get("counts") or {}
    return {
        "record": record,
        "outcome": report["outcome"],
        "text": report["reason"] if report["outcome"] in ("failed", "skipped") else headline(report)[1],
        "accuracy": (report.get("candidate") or {}).get("accuracy"),
        "was": _champions(report),
        "images": sum(sum(of_class.values()) for of_class in counts.values()) or None,
        "usd": (report.get("billed") or {}).get("usd"),
    }


def _unreported(record: RunRecord) -> dict[str, str]:
    """What Airflow alone knows."""
    if record.state == "queued":
        return {"outcome": "waiting", "text": "Airflow has not begun it."}
    if record.goes_on:
        return {"outcome": "running", "text": "It goes on."}
    failed = next((task.task_id for task in record.tasks if task.state == "failed"), None)
    text = f"It failed at {failed}, and left no report." if failed else "It left no report."
    return {"outcome": "failed" if record.state == "failed" else "unknown", "text": text}


def _champions(report: Mapping[str, Any]) -> float | None:
    """The champion's accuracy, unless it was measured on other images: on the classes alone that both know."""
    ours, theirs = report.get("candidate") or {}, report.get("champion") or {}
    return theirs.get("accuracy") if ours.get("n") == theirs.get("n") else None


def chart(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The candidates' accuracy over time, the oldest left: dots, and the line of what serves; None below two."""
    scored = [one for one in reversed(lines) if one["accuracy"] is not None]
    if len(scored) < 2:
        return None
    values = [one["accuracy"] for one in scored]
    low, high = min(values), max(values)
    step, room = (WIDTH - 2 * MARGIN) / (len(scored) - 1), HEIGHT - 2 * MARGIN
    dots = [
        {
            "x": round(MARGIN + place * step, 1),
            "y": round(MARGIN + room * (1 - (one["accuracy"] - low) / ((high - low) or 1)), 1),
            "outcome": one["outcome"],
            "accuracy": one["accuracy"],
            "record": one["record"],
        }
        for place, one in enumerate(scored)
    ]
    serves = " ".join(f"{dot['x']},{dot['y']}" for dot in dots if dot["outcome"] == "promoted")
    return {"dots": dots, "serves": serves, "low": low, "high": high, "width": WIDTH, "height": HEIGHT}
