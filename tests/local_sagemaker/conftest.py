"""SeaweedFS and the server as processes, shared by a module's tests where they can share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from tests.local_sagemaker.harness import BUCKET, Server
from tests.object_store import CLIENT, empty_bucket, free_ports


@pytest.fixture(scope="session", autouse=True)
def bucket_for_all(s3_endpoint: str) -> None:
    boto3.client("s3", endpoint_url=s3_endpoint, **CLIENT).create_bucket(Bucket=BUCKET)


@pytest.fixture(scope="module", autouse=True)
def bucket_of_one_module(bucket_for_all: None, s3_endpoint: str) -> Iterator[None]:
    """Which files share a store differs from run to run, and two of them may well choose the same key."""
    yield
    empty_bucket(boto3.client("s3", endpoint_url=s3_endpoint, **CLIENT), BUCKET)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image map whose training image is this interpreter: test scripts need nothing but the standard library."""
    path = tmp_path_factory.mktemp("images") / "images.toml"
    path.write_text(f'[[image]]\nmatch = ["*/pytorch:*"]\ninterpreter = "{sys.executable}"\n')
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str, images: Path) -> Iterator[Server]:
    """One server for a module's tests; a test that kills or reconfigures it makes its own with `make_server`."""
    running = Server(tmp_path_factory.mktemp("server"), free_ports(1)[0], s3_endpoint, images)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def make_server(tmp_path: Path, s3_endpoint: str, images: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(*arguments: str) -> Server:
        made.append(Server(tmp_path / f"server{len(made)}", free_ports(1)[0], s3_endpoint, images, arguments))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.stop()
