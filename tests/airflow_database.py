"""Airflow's database, migrated once in a process and copied for each Airflow of the tests."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NAME = "airflow.db"
"""Below AIRFLOW_HOME, where Airflow's default looks for it."""


def make(home: Path) -> None:
    """A new database in this AIRFLOW_HOME."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_migrated(), home / NAME)


@functools.cache
def _migrated() -> Path:
    home = Path(tempfile.mkdtemp(prefix="airflow-database-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    command = [str(Path(sys.executable).with_name("airflow")), "db", "migrate"]
    done = subprocess.run(command, env=kept | {"AIRFLOW_HOME": str(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / NAME
