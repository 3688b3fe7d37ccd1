"""What was acknowledged survives kill -9; the long run is `make kill-test`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.local_sagemaker.harness import REPOSITORY
from tests.waiting import PATIENCE_S


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_kills_under_load(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bench.kill", "--kills", "6", "--seed", "8"],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "lost             0 " in result.stdout
    assert "refused restarts 0 " in result.stdout


LOSES_A_RECORD = """
import pathlib, sqlite3, sys
sys.path.insert(0, ".")
from bench import kill, local_server

def kill_and_lose(server, kill=local_server.LocalServer.kill):
    kill(server)
    with sqlite3.connect(server.root / "state.db") as database:
        database.execute("DELETE FROM records WHERE kind = 'model' AND name != 'base'")

local_server.LocalServer.kill = kill_and_lose
sys.exit(kill.run(2, 1, pathlib.Path(sys.argv[1])))
"""


def test_the_kill_test_notices_what_is_lost(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LOSES_A_RECORD, str(tmp_path / "root")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert "model 'model-" in result.stdout
    assert "is None; it must be one of" in result.stdout
