"""What tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SeaweedFS for the session; each test uses keys or buckets of its own."""
    from tests.object_store import seaweedfs  # not there in the interpreter of ml/, which needs no store

    with seaweedfs(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint
