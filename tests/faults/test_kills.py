"""Processes that die, and two runs at once: some of the points in each scenario; `make faults` tries them all."""

from __future__ import annotations

import pytest

from tests.faults.faults import KINDS, Laboratory
from tests.faults.scenarios import SCENARIOS

QUICK_SCENARIOS = ("update-good", "update-rolled-back", "update-wrong", "shadow-good", "canary-wrong")
QUICK = 37  # one of as many points, beginning with another one in each scenario


@pytest.mark.parametrize(("number", "scenario"), list(enumerate(QUICK_SCENARIOS)))
def test_death_of_a_process_harms_nothing(laboratory: Laboratory, number: int, scenario: str) -> None:
    found = list(KINDS["kills"](laboratory, SCENARIOS[scenario], number, QUICK))
    assert len(found) > 6
    assert [finding for finding in found if finding.harmful or finding.lost] == []


def test_two_runs_at_once_harm_nothing(laboratory: Laboratory) -> None:
    found = list(KINDS["interleaved"](laboratory, SCENARIOS["first-wrong"], range(1, 9)))
    assert [finding for finding in found if finding.harmful] == []
