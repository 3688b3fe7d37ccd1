"""Airflow executes every .py below plugins/ under its bare name; the ignore file keeps it out of the package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import shipped
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]


def test_only_registering_files_lie_beside_the_package() -> None:
    names = {path.name for path in shipped.files("plugins") if path.parent == ROOT / "plugins"}
    assert names == {".airflowignore", "retraining_plugin.py"}


@pytest.mark.slow
def test_airflow_loads_the_plugin_and_does_not_execute_the_package(tmp_path: Path) -> None:
    code = (
        "import sys; from airflow import plugins_manager; "
        "plugins = [plugin.name for plugin in plugins_manager._get_plugins()[0]]; "
        "errors = plugins_manager.get_import_errors(); "
        "stems = {'recipe', 'plan', 'triggers', 'environment', 'operators'} & set(sys.modules); "
        "print('retraining' in plugins, errors, stems)"
    )
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert result.stdout.strip().splitlines()[-1:] == ["True {} set()"], result.stderr[-2000:]
