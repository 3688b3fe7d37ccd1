"""Endpoints outlive their workers and their server: whatever dies or hangs, what was in service is in service again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.local_sagemaker.harness import Server, has_ended, refused
from tests.local_sagemaker.serving import (
    create_config,
    create_model,
    deploy,
    invoke,
    wait_deleted,
    wait_endpoint,
    write_image_map,
)
from tests.object_store import free_ports
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str, images: Path) -> Iterator[Server]:
    """A server for the tests that stop it."""
    server = Server(tmp_path_factory.mktemp("mortal"), free_ports(1)[0], s3_endpoint, images)
    server.start()
    yield server
    server.stop()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    # A request that reaches the dying process is lost with it, and until it is reaped one of its threads may live.
    wait_until(lambda: not psutil.pid_exists(pid))


def test_killed_worker_comes_back(server: Server) -> None:
    name = deploy(server, create_config(server, create_model(server, version=1)))
    pid = invoke(server, name)["pid"]
    kill(pid)
    assert invoke(server, name)["pid"] != pid
    answer = refused(lambda: invoke(server, name, b"crash"))
    assert answer["Error"]["Code"] == "ModelError"
    assert "model process exited" in answer["Error"]["Message"]
    assert invoke(server, name)["version"] == 1
    assert server.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService"


def test_restarted_server_serves_again(mortal: Server) -> None:
    name = deploy(mortal, create_config(mortal, create_model(mortal, version=1)))
    pid = invoke(mortal, name)["pid"]
    mortal.stop()
    assert has_ended(pid)
    mortal.start()
    assert invoke(mortal, name)["pid"] != pid


def test_killed_server_ends_its_orphans_and_goes_on_updating(mortal: Server) -> None:
    name = deploy(mortal, create_config(mortal, create_model(mortal, version=1)))
    pid = invoke(mortal, name)["pid"]
    config = create_config(mortal, create_model(mortal, version=2, start_s=1))
    mortal.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    mortal.stop(signal.SIGKILL)
    assert psutil.pid_exists(pid)
    mortal.start()
    assert has_ended(pid)
    assert invoke(mortal, name)["version"] in (1, 2)
    assert wait_endpoint(mortal, name)["EndpointConfigName"] == config
    assert invoke(mortal, name)["version"] == 2


@pytest.mark.slow
def test_worker_that_hangs_is_replaced_and_no_request_lost(server: Server) -> None:
    """A stopped process accepts connections, lives, and says nothing: only its silence tells."""
    name = deploy(server, create_config(server, create_model(server, version=1)))
    pid = invoke(server, name)["pid"]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: "answered no ping within 10 s" in server.log(), server.log, every_s=0.2)
    assert invoke(server, name)["pid"] != pid
    assert has_ended(pid)
    assert server.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService"


def test_deleting_endpoint_is_deleted_after_a_restart(mortal: Server) -> None:
    name = deploy(mortal, create_config(mortal, create_model(mortal, version=1)))
    mortal.sagemaker.delete_endpoint(EndpointName=name)
    mortal.stop(signal.SIGKILL)
    mortal.start()
    wait_deleted(mortal, name)
