"""What tests of several folders share, and in which order and groups the whole suite runs."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

# A worker inherits the Airflow that the process which started it made for itself, with its database; each has its own.
if "PYTEST_XDIST_WORKER" in os.environ and Path(os.environ.get("AIRFLOW_HOME", "")).name.startswith("airflow-test-"):
    del os.environ["AIRFLOW_HOME"]

#: Folders whose fixtures are one for all of their files: programs of a client, each started once.
TOGETHER = ("conformance",)
#: What takes long begins first, so that no worker is left alone with it at the end.
FIRST = ("conformance", "e2e", "projects", "dags")
#: Whose tests `--quick` runs, as far as they need no store, start no server and take less than some seconds.
QUICK = ("architecture", "contract", "plugins", "stack")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="what a person runs between two edits: make test-quick")


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # until all is imported: nothing of that is garbage, and looking costs a third
    with contextlib.suppress(ImportError):  # no client of AWS in the interpreter of ml/
        from tests import service_models

        service_models.read_once()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        folder = folder_of(item)
        return FIRST.index(folder) if folder in FIRST else len(FIRST)

    items.sort(key=place)  # stable
    if config.getoption("--quick"):
        slow = [item for item in items if not is_quick(item)]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if is_quick(item)]


def pytest_collection_finish() -> None:
    gc.freeze()  # what was imported stays to the end
    gc.enable()


@pytest.hookimpl(tryfirst=True)  # before the fixtures of its file
def pytest_runtest_setup() -> None:
    """Each test draws the same, whichever ran before it: what fails once fails again."""
    random.seed(0)
    ctypes.CDLL(None).srand(0)  # which Pillow's effect_noise draws from
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


def folder_of(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).parts[0]


def is_quick(item: pytest.Item) -> bool:
    waits = "s3_endpoint" in getattr(item, "fixturenames", ()) or item.get_closest_marker("slow")
    return folder_of(item) in QUICK and not waits


@pytest.hookimpl(optionalhook=True)  # there is none where xdist is not installed
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of one file go to one worker, in the order of collection: they share what their fixtures start."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            folder = file.removeprefix(f"{HERE.name}/").partition("/")[0]
            return folder if folder in TOGETHER else file

    return ByFile(config, log)


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SeaweedFS for the session; each test uses keys or buckets of its own."""
    from tests.object_store import seaweedfs  # not there in the interpreter of ml/, which needs no store

    with seaweedfs(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint
