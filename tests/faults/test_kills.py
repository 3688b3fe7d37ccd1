"""Processes that die or stall, bad weather, two runs at once: some points of each; `make faults` tries them all."""

from __future__ import annotations

import pytest

from tests.faults.faults import KINDS, STALLS, Laboratory, zombie_at_call
from tests.faults.scenarios import SCENARIOS

QUICK_SCENARIOS = ("update-good", "update-rolled-back", "update-wrong", "shadow-good", "canary-wrong")
QUICK = 37  # one of as many points, beginning with another one in each scenario


@pytest.mark.parametrize(("number", "scenario"), list(enumerate(QUICK_SCENARIOS)))
def test_death_of_a_process_harms_nothing(laboratory: Laboratory, number: int, scenario: str) -> None:
    found = list(KINDS["kills"](laboratory, SCENARIOS[scenario], number, QUICK))
    assert len(found) > 6
    assert [finding for finding in found if finding.harmful or finding.lost] == []


@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("moment", ["task", "week"])
@pytest.mark.parametrize(
    ("scenario", "call"),
    [("update-good", "UpdateEndpoint"), ("update-wrong", "UpdateEndpoint"), ("first-wrong", "DeleteEndpoint")],
)
def test_attempt_that_wakes_too_late_asks_nothing(
    laboratory: Laboratory, scenario: str, call: str, moment: str, stalls: str
) -> None:
    found = zombie_at_call(laboratory, SCENARIOS[scenario], stalls, f"sagemaker.{call}", moment)
    assert (found.harmful, found.lost) == ([], [])


@pytest.mark.parametrize("weather", ["throttling_hour", "store_away_hour", "expired_hour"])
def test_an_hour_of_weather_loses_no_run(laboratory: Laboratory, weather: str) -> None:
    found = list(KINDS[weather](laboratory, SCENARIOS["update-good"], step=9))
    assert len(found) > 6
    assert [finding for finding in found if finding.harmful or finding.lost] == []


def test_a_quota_in_use_loses_no_run(laboratory: Laboratory) -> None:
    found = list(KINDS["occupied"](laboratory, SCENARIOS["update-good"]))
    assert len(found) > 1
    assert [finding for finding in found if finding.harmful or finding.lost] == []


def test_two_runs_at_once_harm_nothing(laboratory: Laboratory) -> None:
    found = list(KINDS["interleaved"](laboratory, SCENARIOS["first-wrong"], range(1, 9)))
    assert [finding for finding in found if finding.harmful] == []
