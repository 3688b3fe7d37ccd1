"""Each harm is planted once in a week that went well, and is seen; without it nothing is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.real.client import Answer, outages, unexcused
from tests.faults.real.evidence import Endpoint, Evidence, Job, Package
from tests.faults.real.invariants import harms, unanswered

RUN, OLD = "tiny-261129-120000-aaaaa", "tiny-261122-120000-bbbbb"
CHAMPION = {"run_name": RUN, "endpoint_config": RUN}
BEFORE = {"run_name": OLD, "endpoint_config": OLD}
PROMOTED = Evidence(
    run=RUN,
    state="success",
    before=BEFORE,
    champion=CHAMPION,
    report={"outcome": "promoted", "reason": "better"},
    endpoint=Endpoint(status="InService", config=RUN, model=RUN),
    jobs=[
        Job(kind="tuning", name=RUN, status="Completed"),
        Job(kind="training", name=f"{RUN}-001-abc", status="Completed"),
        Job(kind="training", name=f"{RUN}-train", status="Failed", reason="InternalServerError: a host was lost"),
        Job(kind="training", name=f"{RUN}-train-g2", status="Completed"),
    ],
    packages=[Package(run=RUN, status="Approved"), Package(run=OLD, status="Approved")],
    golden=[("sky", "sky")],
    served=[OLD, RUN],
)
FAILED = replace(
    PROMOTED,
    state="failed",
    champion=BEFORE,
    report={"outcome": "failed", "reason": "train: its process was killed"},
    endpoint=Endpoint(status="InService", config=OLD, model=OLD),
    packages=[Package(run=RUN, status="Rejected"), Package(run=OLD, status="Approved")],
    served=[OLD],
)
TRAIN = Job(kind="training", name=f"{RUN}-train", status="Completed")


def test_weeks_that_went_well_are_harmless() -> None:
    kept = replace(FAILED, state="success", report={"outcome": "kept", "reason": "worse"})
    assert [harms(found) for found in (PROMOTED, FAILED, kept)] == [[], [], []]


@pytest.mark.parametrize(
    ("week", "planted", "seen"),
    [
        (PROMOTED, {"jobs": [TRAIN, replace(TRAIN, name=f"{RUN}-train-g2")]}, "I1"),
        (PROMOTED, {"jobs": [replace(TRAIN, name=f"{RUN}-001-abc"), replace(TRAIN, name=f"{RUN}-002-def")]}, "I1"),
        (PROMOTED, {"packages": [*PROMOTED.packages, Package(run=RUN, status="Approved")]}, "I1"),
        (PROMOTED, {"served": [OLD, RUN, OLD, RUN]}, "I2"),
        (PROMOTED, {"endpoint": Endpoint(status="InService", config=RUN, model=None)}, "I4"),
        (PROMOTED, {"missing": ["tiny/data/images/sky/1.png"]}, "I4"),
        (PROMOTED, {"jobs": [replace(TRAIN, status="InProgress")]}, "I5"),
        (FAILED, {"jobs": [replace(TRAIN, name=f"{OLD}-train", status="Stopping")]}, "I5"),
        (PROMOTED, {"processes": ["python train.py"]}, "I5"),
        (PROMOTED, {"golden": [("sky", "ground")]}, "I6"),
        (FAILED, {"champion": BEFORE | {"run_name": "tiny-260101-120000-ccccc"}}, "I6"),
        (PROMOTED, {"packages": [Package(run=RUN, status="PendingManualApproval")]}, "I7"),
        (FAILED, {"packages": [Package(run=RUN, status="Approved"), Package(run=OLD, status="Approved")]}, "I7"),
        (FAILED, {"endpoint": Endpoint(status="InService", config=RUN, model=RUN)}, "I10"),
        (FAILED, {"endpoint": None}, "I10"),
        (PROMOTED, {"endpoint": Endpoint(status="Updating", config=RUN, model=RUN)}, "I10"),
        (PROMOTED, {"report": None}, "I10"),
        (PROMOTED, {"state": "failed"}, "I10"),
        (FAILED, {"state": "success"}, "I10"),
        (FAILED, {"state": "success", "report": {"outcome": "skipped", "reason": "unchanged"}}, "I10"),
        (FAILED, {"report": {"outcome": "promoted", "reason": "better"}, "state": "success"}, "I10"),
    ],
)
def test_planted_harm_is_seen(week: Evidence, planted: Mapping[str, Any], seen: str) -> None:
    assert [harm for harm in harms(replace(week, **planted)) if harm.startswith(f"{seen}:")]


def test_failures_count_unless_what_answers_was_killed() -> None:
    answers = [Answer(0, 1), Answer(2, 3, "cut"), Answer(4, 5, "refused"), Answer(6, 7), Answer(8, 9, "500")]
    windows = outages(answers, [2.5], until=10)
    assert windows == [(2.5, 7)]
    (left,) = unexcused(answers, windows)
    assert left.wrong == "500"
    assert unanswered([left])[0].startswith("I3: 1 requests") and unanswered([]) == []


def test_outage_lasts_until_somebody_is_answered() -> None:
    assert outages([Answer(0, 1), Answer(3, 4, "refused")], [2], until=30) == [(2, 30)]
