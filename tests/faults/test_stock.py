"""The provider's own operators on the same services, by the same checker: a peer that is measured fairly."""

from __future__ import annotations

import pytest

from tests.faults.faults import Laboratory, kill_at_call, undisturbed, zombie_at_call
from tests.faults.scenarios import STOCK


@pytest.mark.parametrize("week", ["update-good", "update-wrong", "kept", "platform-failure"])
def test_stock_operators_do_an_undisturbed_week(laboratory: Laboratory, week: str) -> None:
    found = undisturbed(laboratory, STOCK[f"stock {week}"])
    assert (found.harmful, found.lost) == ([], [])


def test_a_second_job_of_a_retry_is_seen(laboratory: Laboratory) -> None:
    found = kill_at_call(laboratory, STOCK["stock update-good"], "sagemaker.CreateTrainingJob")
    assert any(told.startswith("I1: 2 jobs") for told in found.harmful)


def test_a_rolled_back_update_called_success_is_seen(laboratory: Laboratory) -> None:
    assert undisturbed(laboratory, STOCK["stock update-rolled-back"]).harmful


def test_a_zombie_of_theirs_is_seen(laboratory: Laboratory) -> None:
    """Whose update comes when the next week's run has ended."""
    found = zombie_at_call(laboratory, STOCK["stock update-good"], "signing", "sagemaker.UpdateEndpoint", "week")
    assert found.harmful == ["I10: the run is green, and its candidate does not serve"]
