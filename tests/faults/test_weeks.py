"""Runs that nothing befalls: the simulated services are good enough for the real DAG."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.faults import Laboratory
from tests.faults.scenarios import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_undisturbed_week_keeps_every_invariant(laboratory: Laboratory, scenario: Any) -> None:
    assert laboratory.calls(scenario)
