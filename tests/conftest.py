"""What tests of several folders share, and in which order and groups the whole suite runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: Folders whose fixtures are one for all of their files: programs of a client, each started once.
TOGETHER = ("conformance",)
#: What takes long begins first, so that no worker is left alone with it at the end.
FIRST = ("conformance", "e2e", "projects", "dags")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one file stay together: they share the server that their fixtures start."""
    for item in items:
        folder = folder_of(item)
        item.add_marker(pytest.mark.xdist_group(folder if folder in TOGETHER else str(item.path.relative_to(HERE))))
    items.sort(key=lambda item: FIRST.index(folder_of(item)) if folder_of(item) in FIRST else len(FIRST))  # stable


def folder_of(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).parts[0]


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SeaweedFS for the session; each test uses keys or buckets of its own."""
    from tests.object_store import seaweedfs  # not there in the interpreter of ml/, which needs no store

    with seaweedfs(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint
