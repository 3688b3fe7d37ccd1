"""Runs that nothing befalls: the simulated services are good enough for the real DAG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.faults import Laboratory
from tests.faults.installation import installed
from tests.faults.scenarios import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_undisturbed_week_keeps_every_invariant(laboratory: Laboratory, scenario: Any) -> None:
    assert laboratory.calls(scenario)


def test_a_source_that_lost_most_stops_before_paying(tmp_path: Path) -> None:
    """A folder that is half mounted. A new installation: images of the others' are not touched."""
    with installed(tmp_path) as installation:
        world, _ = SCENARIOS["update-good"].begin(installation, {})
        for label in ("red", "blue"):
            for path in sorted((tmp_path / "images" / label).iterdir())[5:]:
                path.unlink()
        run = installation.begin(world, force=True)
        assert run.finish() == "failed"
        told = run.xcoms["sync_dataset"]["failure"]
        assert "10 images in all, where there were 40 when the champion was trained" in told
        assert "Nothing was paid for" in told
        assert [call for call in world.calls if call.startswith("sagemaker.Create")] == []
