"""SeaweedFS and the server as processes, shared by a module's tests where they can share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from tests.local_sagemaker.harness import BUCKET, CLIENT, KEY_ID, SECRET, Server, free_ports


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("s3")
    s3, master, volume, filer, admin = free_ports(5, also=10000)
    command = [
        str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "mini", f"-dir={folder}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}",
        f"-filer.port={filer}", f"-admin.port={admin}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false",
        "-admin.ui=false", "-master.telemetry=false", "-disableHttp", "-s3.autoCreateBucket=false",
    ]  # fmt: skip
    environment = os.environ | {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        endpoint = f"http://127.0.0.1:{s3}"
        client = boto3.client("s3", endpoint_url=endpoint, **CLIENT)
        deadline = time.monotonic() + 30
        while True:
            try:
                if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                    client.create_bucket(Bucket=BUCKET)
                client.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
                client.get_object(Bucket=BUCKET, Key="ready")["Body"].read()
                break
            except Exception:
                assert time.monotonic() < deadline, (folder / "weed.log").read_text()[-2000:]
                time.sleep(0.2)
        yield endpoint
    finally:
        process.kill()
        process.wait()


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
