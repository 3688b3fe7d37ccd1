"""An installation for the simulated runs of a file, gone with it: other tests of the process have real clients."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before anything imports airflow.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-test-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__PLUGINS_FOLDER", str(Path(__file__).parents[2] / "plugins"))


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.faults.installation import installed

    with installed(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.fixture(scope="module")
def laboratory(installation: Any) -> Any:
    from tests.faults.faults import Laboratory

    return Laboratory(installation)
