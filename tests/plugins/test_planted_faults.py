"""Every fault that a file can have is found by the code that its mender needs. PLANTED=40 for as many of each kind."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from retraining.dataset.pictures.verify import Rejected, verify_image
from tests.plugins.planted import FAULTS, Make

PLANTED = int(os.environ.get("PLANTED", "2"))


def test_there_are_sixty_kinds() -> None:
    assert len({what for what, _, _ in FAULTS}) == len(FAULTS) >= 60


@pytest.mark.parametrize(("make", "code"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_planted_fault_is_named(make: Make, code: str, tmp_path: Path) -> None:
    for seed in range(PLANTED):
        (tmp_path / "picture").write_bytes(make(random.Random(seed)))
        verdict = verify_image(tmp_path / "picture")
        assert isinstance(verdict, Rejected), (seed, verdict)
        assert (verdict.code, bool(verdict.detail)) == (code, True), (seed, verdict)
