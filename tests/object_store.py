"""A real S3 for the tests: SeaweedFS as a process, as in the local stack."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import botocore.config

from stack import processes, store, store_keys
from stack.settings import GRPC_OFFSET, STORE_PARTS
from tests.waiting import PATIENCE_S, wait_until

DRAW = random.SystemRandom()
KEY_ID, SECRET, REGION = "test-key-id", "test-secret", "us-east-1"

#: What every client of the tests is made with. Nothing is retried: a request that fails is a finding.
CLIENT: dict[str, Any] = {
    "region_name": REGION,
    "aws_access_key_id": KEY_ID,
    "aws_secret_access_key": SECRET,
    "config": botocore.config.Config(
        retries={"total_max_attempts": 1}, parameter_validation=False, read_timeout=PATIENCE_S
    ),
}


@contextlib.contextmanager
def seaweedfs(folder: Path, ports: Mapping[str, int] | None = None) -> Iterator[str]:
    """A running store with its data in `folder`; yields its endpoint URL."""
    ports = ports or store_ports()
    store_keys.make(folder / "keys")
    command = store.command_with(
        str(Path(sys.executable).with_name("weed")),
        data=folder,
        keys=folder / "keys",
        cwd=folder,
        http=ports,
        grpc=store.grpc_ports(ports),
    )
    environment = os.environ | {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=folder, umask=processes.PRIVATE
        )
    try:
        endpoint = f"http://127.0.0.1:{ports['S3']}"
        wait_until_ready(boto3.client("s3", endpoint_url=endpoint, **CLIENT), folder / "weed.log")
        yield endpoint
    finally:
        process.kill()
        process.wait()


def store_ports() -> dict[str, int]:
    return dict(zip(STORE_PARTS, free_ports(len(STORE_PARTS), also=GRPC_OFFSET), strict=True))


def wait_until_ready(client: Any, log: Path) -> None:
    """It answers ListBuckets seconds before it can keep an object, so only reading a written object counts."""

    def keeps() -> bool:
        with contextlib.suppress(Exception):
            if not client.list_buckets()["Buckets"]:
                client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"1")
            return bool(client.get_object(Bucket="ready", Key="ready")["Body"].read())
        return False

    wait_until(keeps, lambda: log.read_text(errors="replace")[-2000:], every_s=0.2)


def delete_bucket(client: Any, name: str) -> None:
    """With all that is in it: each bucket keeps files open and memory."""
    empty_bucket(client, name)
    client.delete_bucket(Bucket=name)


def empty_bucket(client: Any, name: str) -> None:
    while keys := [{"Key": entry["Key"]} for entry in client.list_objects_v2(Bucket=name).get("Contents", [])]:
        client.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True})


def free_ports(count: int, also: int = 0) -> list[int]:
    """Free loopback ports; with `also`, port + also is free too.

    None lies where the kernel takes the ports of outgoing connections from, one of which could be quicker. Drawn by the
    system: from one seed for all tests, those side by side would draw the same.
    """
    found: list[int] = []
    while len(found) < count:
        port = DRAW.randrange(10_240, 20_000)
        if port not in found and all(is_free(number) for number in {port, port + also}):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
