"""A few seconds of what `make fuzz` sends to each server: nothing of it ends one, or makes one fail by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.servers import SERVERS

SECONDS = 6


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_survives_what_no_client_sends(name: str, tmp_path: Path) -> None:
    with SERVERS[name](tmp_path) as attack:
        attack.is_timed = False
        attack.run(SECONDS, tmp_path / "figures.json")
        assert attack.findings == []
        assert attack.figures()["requests"] > 100
