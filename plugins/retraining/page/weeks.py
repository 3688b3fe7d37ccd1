"""The runs of one DAG, week by week: what was decided, why, and how accurate what serves became."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from retraining.page.airflow_runs import RunRecord
from retraining.page.documents import Shelf, name_of, run_key
from retraining.page.figures import number, sentence, wilson
from retraining.page.headline import headline
from retraining.page.kept import Kept

log = logging.getLogger(__name__)

MOST = 104
"""Runs on the page: two years of weeks."""
THREADS = 10  # as many connections as a boto3 client keeps
MAX_TEXT = 300
NOTHING = dict.fromkeys(("run_name", "accuracy", "low", "high", "was", "images", "usd"))

# A report is rewritten only by its task, whose end is part of the key; by hand, and it is seen ten minutes later.
_lines: Kept[Mapping[str, Any] | None] = Kept(most=4000, seconds=600)


def read_weeks(shelf: Shelf, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """A line for each run, in their order; `change` is by how many images the data grew since the run before."""

    def read(record: RunRecord) -> dict[str, Any]:
        return {"record": record, **(_read(shelf, record) or _unreported(record))}

    with ThreadPoolExecutor(THREADS) as pool:
        lines = list(pool.map(read, records))
    before: int | None = None
    for line in reversed(lines):
        line["change"] = line["images"] - before if line["images"] and before else None
        before = line["images"] or before
    return lines


def _read(shelf: Shelf, record: RunRecord) -> Mapping[str, Any] | None:
    """What the report says; None where there is none of the latest attempt, or none that can be read."""
    if not record.reported:
        return None
    key = f"{run_key(record.recipe or '', name_of(record, shelf.bucket))}/report.json"
    written = record.task("report")

    def read() -> Mapping[str, Any] | None:
        try:
            return told(report) if (report := shelf.optional(key)) else None
        except (AttributeError, LookupError, TypeError, ValueError):
            log.exception("The report of run %s cannot be read.", record.run_id)
            return None

    return _lines.get((shelf.bucket, key, written and written.end), read)


def told(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a report says of its run, in a line."""
    counts = (report.get("dataset") or {}).get("counts") or {}
    candidate = report.get("candidate") or {}
    low, high = wilson(round(candidate["accuracy"] * candidate["n"]), candidate["n"]) if candidate else (None, None)
    text = report["reason"] if report["outcome"] in ("failed", "skipped") else headline(report)[1]
    if report["outcome"] == "skipped":  # without what to do about it, which the run's own page says
        text = sentence(re.split(r" \(|; ", text, maxsplit=1)[0])
    return {
        "run_name": report["run_name"],
        "outcome": report["outcome"],
        "text": text[:MAX_TEXT],
        "accuracy": number(candidate.get("accuracy")),
        "low": low,
        "high": high,
        "was": _champions(report),
        "images": sum(sum(of_class.values()) for of_class in counts.values()) or None,
        "usd": number((report.get("billed") or {}).get("usd")),
    }


def _unreported(record: RunRecord) -> dict[str, Any]:
    """What Airflow alone knows."""
    if record.state == "queued":
        return NOTHING | {"outcome": "waiting", "text": "Airflow has not begun it."}
    if record.goes_on:
        return NOTHING | {"outcome": "running", "text": "It goes on."}
    failed = next((task.task_id for task in record.tasks if task.state == "failed"), None)
    text = f"It failed at {failed}, and left no report." if failed else "It left no report."
    return NOTHING | {"outcome": "failed" if record.state == "failed" else "unknown", "text": text}


def _champions(report: Mapping[str, Any]) -> float | None:
    """The champion's accuracy, unless it was measured on other images: on the classes alone that both know."""
    ours, theirs = report.get("candidate") or {}, report.get("champion") or {}
    return number(theirs.get("accuracy")) if ours.get("n") == theirs.get("n") else None
