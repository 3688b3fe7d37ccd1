"""The runs of a DAG in lines and a chart: read once, and true about what serves."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from retraining.page.airflow_runs import RunRecord, TaskRecord
from retraining.page.app import weeks_page
from retraining.page.chart import chart, scale, served
from retraining.page.documents import Shelf
from retraining.page.kept import Kept
from retraining.page.weeks import MOST, NOTHING, read_weeks, told
from tests.page.runs import BEGAN, documents

DIGITS = [str(digit) for digit in range(10)]
BODY = json.dumps(documents(DIGITS).report).encode()


@dataclass
class Counting:
    """A shelf's S3 that counts what it is asked for: each object is the same report."""

    asked: list[str] = field(default_factory=list)

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        self.asked.append(Key)
        return {"Body": io.BytesIO(BODY)}


def reported(week: int, minutes: int = 0) -> RunRecord:
    """A run whose report was written so many minutes late."""
    end = BEGAN + timedelta(minutes=minutes)
    task = TaskRecord(task_id="report", state="success", start=BEGAN, end=end)
    at = BEGAN + timedelta(weeks=week)
    return RunRecord(
        dag_id="retrain_digits", run_id=f"r{week}", run_after=at, state="success", start=at, end=at, tasks=(task,)
    )


def test_a_finished_run_is_read_once_and_again_when_it_is_rewritten() -> None:
    s3 = Counting()
    shelf = Shelf(s3=s3, bucket="test-read-once")
    runs = [reported(week) for week in range(MOST)]
    assert [line["outcome"] for line in read_weeks(shelf, runs)] == ["promoted"] * MOST
    assert len(s3.asked) == MOST
    read_weeks(shelf, runs)
    assert len(s3.asked) == MOST
    read_weeks(shelf, [reported(0, minutes=5), *runs[1:]])
    assert len(s3.asked) == MOST + 1


def test_a_run_that_goes_on_is_not_asked_for() -> None:
    s3 = Counting()
    run = replace(reported(1), state="queued")
    assert read_weeks(Shelf(s3=s3, bucket="test-waits"), [run])[0]["text"] == "Airflow has not begun it."
    assert s3.asked == []


def test_what_is_kept_is_bounded_in_number_and_age() -> None:
    now = [0.0]
    kept: Kept[int] = Kept(most=2, seconds=10, clock=lambda: now[0])
    assert [kept.get(key, lambda key=key: key) for key in (1, 2, 3)] == [1, 2, 3]
    assert kept.get(3, lambda: 0) == 3 and kept.get(1, lambda: 0) == 0
    now[0] = 11
    assert kept.get(3, lambda: 4) == 4


def week(outcome: str, accuracy: float | None, was: float | None, name: str = "") -> dict[str, Any]:
    return NOTHING | {
        "record": reported(0), "outcome": outcome, "accuracy": accuracy, "was": was, "run_name": name, "text": "",
    }  # fmt: skip


def test_what_serves_after_a_rollback_is_what_was_gone_back_to() -> None:
    promoted = [week("promoted", 0.90, None, "a"), week("promoted", 0.95, 0.90, "b")]
    assert served(promoted, {"run_name": "b"}) == [(0, 0.90), (1, 0.95)]
    after = [*promoted, week("failed", None, None), week("kept", 0.93, 0.91)]
    back = {"run_name": "a", "rolled_back": {"at": (BEGAN - timedelta(days=1)).isoformat()}}
    assert served(after, back) == [(0, 0.90), (1, 0.95), (2, 0.95), (3, 0.91)]
    back = {"run_name": "a", "rolled_back": {"at": (BEGAN + timedelta(days=1)).isoformat()}}
    assert served(promoted, back) == [(0, 0.90), (1, 0.95), (1, 0.90)]


def test_a_candidate_that_was_kept_out_does_not_serve() -> None:
    weeks = [week("promoted", 0.90, None), week("kept", 0.99, 0.89), week("skipped", None, None)]
    assert served(weeks, None) == [(0, 0.90), (1, 0.89), (2, 0.89)]


@pytest.mark.parametrize(("low", "high"), [(0.8834, 0.9921), (0.972, 0.978), (0.99, 0.99), (1.0, 1.0), (0.0, 1.0)])
def test_a_scale_has_few_round_numbers_around_the_values(low: float, high: float) -> None:
    ticks = scale(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 3 <= len(ticks) <= 7
    assert all(0 <= tick <= 1 and len(str(tick)) <= 5 for tick in ticks)


def test_a_chart_shows_every_run_within_its_edges() -> None:
    lines = [week("failed", None, None), week("kept", 0.93, 0.95), week("promoted", 0.95, None)]
    drawn = chart(lines)
    assert drawn and [dot["outcome"] for dot in drawn["dots"]] == ["promoted", "kept", "failed"]
    assert all(drawn["left"] <= dot["x"] <= drawn["right"] and 0 < dot["y"] <= drawn["floor"] for dot in drawn["dots"])
    assert chart(lines[:2]) is None


@pytest.mark.parametrize(
    "left", [{"billed": {"usd": "much"}}, {"candidate": {"accuracy": 1, "n": 0}}, {"run_name": None, "reason": ""}]
)
def test_a_report_with_other_values_leaves_the_other_weeks(left: dict[str, Any]) -> None:
    report = dict(documents(DIGITS).report) | left
    line = {"record": reported(0), "change": None, **told(report)}
    assert weeks_page("digits", [line, line]).status_code == 200


def test_a_skipped_week_is_told_in_a_few_words() -> None:
    same = "data, code and recipe are those of champion d-1 (rules make no other model); trigger with force to retrain"
    report = {"run_name": "r", "outcome": "skipped", "reason": same}
    assert told(report)["text"] == "Data, code and recipe are those of champion d-1."


def test_who_went_back_is_told() -> None:
    back = {"by": "<b>ada</b>", "at": "2026-11-30T04:00:00+00:00", "reason": "wrong <labels>"}
    lines = [week("promoted", 0.95, 0.9, "b"), week("promoted", 0.9, None, "a")]
    lines = [line | {"change": None} for line in lines]
    page = bytes(weeks_page("digits", lines, {"run_name": "a", "rolled_back": back}).body).decode()
    assert "&lt;b&gt;ada&lt;/b&gt; went back to it" in page and "wrong &lt;labels&gt;" in page
    assert page.count('class="tag"') == 1 and page.index('class="tag"') > page.index("b")
