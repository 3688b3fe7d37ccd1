"""What a rule writes of the numbers that it judged is what a run's page draws."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from retraining.debugger.series import MOST_POINTS, read_series
from retraining.page.evidence import evidence
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
JUDGE = """
import json
from debugger.rules.curve import Curve
from debugger.rules.rule import Verdict
from debugger.rules.verdicts import issue_document
curve = Curve("losses", "training loss")
for step in range(100_000):
    curve.add(step, 2 - step / 1e5, 0.5)
print(json.dumps(issue_document("Mine", "Mine", Verdict("bad", 99_999), [], curve)))
"""


class Store:
    """S3 with one verdict in it."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def get_object(self, **_: Any) -> dict[str, Any]:
        return {"Body": self}

    def read(self, _: int) -> bytes:
        return self.body


def test_the_series_of_a_rule_is_drawn() -> None:
    done = subprocess.run(
        [ROOT / ".venv/ml/bin/python", "-c", JUDGE],
        env=os.environ | {"PYTHONPATH": str(ROOT / "ml")}, capture_output=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    series = read_series(Store(done.stdout), "bucket", "x", [{"rule": "Mine", "status": "IssuesFound"}])["Mine"]
    assert series
    assert len(series["steps"]) <= MOST_POINTS / 2 + 1
    chart = evidence(series)
    assert chart
    assert (chart["what"], chart["tensor"], chart["step"]) == ("training loss", "losses", 99_999)
    assert chart["limit"]["value"] == 0.5
    assert chart["fired"]["x"] == chart["right"]
    assert len(json.dumps(series)) < 10_000
