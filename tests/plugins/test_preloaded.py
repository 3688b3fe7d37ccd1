"""What tasks and parses would import is there before they are forked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PARSED = """
import sys
from retraining.preloaded import preload
preload()
assert "retraining.plan" not in sys.modules
from airflow.dag_processing.dagbag import DagBag
DagBag(sys.argv[2])  # of no DAG at all
before = set(sys.modules)
bag = DagBag(sys.argv[1])
assert bag.dags and not bag.import_errors, bag.import_errors
assert "retraining.plan" in sys.modules
ours = ("retraining", "unusual_prefix")
late = sorted(name for name in set(sys.modules) - before if not name.startswith(ours))
print("late:", late)
"""


def run(*arguments: str, tmp_path: Path) -> str:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "plugins"),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "RETRAINING_ENVIRONMENT": "local",
    }
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_parse_imports_no_further_library(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert "late: []" in run("-c", PARSED, str(ROOT / "dags"), str(tmp_path / "none"), tmp_path=tmp_path)


def test_airflows_commands_are_carried_out(tmp_path: Path) -> None:
    assert run("-m", "retraining.preloaded", "version", tmp_path=tmp_path).strip().splitlines()[-1].startswith("3.")
