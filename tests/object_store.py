"""A real S3 for the tests: SeaweedFS as a process, as in the local stack."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
import botocore.config

from stack import processes, store, store_keys
from stack.settings import GRPC_OFFSET, STORE_PARTS
from tests.waiting import PATIENCE_S, wait_until

DRAW = random.SystemRandom()
ROOT = Path(__file__).parents[1]
WEED = Path(sys.executable).with_name("weed")
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


Starting = Callable[[Path, Mapping[str, int]], Sequence[str]]
"""The command that starts a store with its data, and its keys in `keys`, in a folder, at these ports."""


def of_the_laptop(folder: Path, ports: Mapping[str, int]) -> Sequence[str]:
    store_keys.make(folder / "keys")
    grpc = store.grpc_ports(ports)
    return store.command_with(str(WEED), data=folder, keys=folder / "keys", cwd=folder, http=ports, grpc=grpc)


def of_compose(folder: Path, ports: Mapping[str, int]) -> Sequence[str]:
    """What its image runs, with places and ports of this machine in place of the container's own."""
    text = (ROOT / "docker/s3.Dockerfile").read_text().partition("\nENTRYPOINT ")[2].replace("\\\n", "")
    places = {"python": sys.executable, "/store_keys.py": str(ROOT / "stack/store_keys.py"), "weed": str(WEED)}
    words = [places.get(word, word) for word in json.loads(text) if not word.startswith("-s3.port=")]
    words = [word.replace("/data", str(folder)).replace("0.0.0.0", "127.0.0.1") for word in words]
    grpc = store.grpc_ports(ports)
    return [
        *words,
        *(f"-{part.lower()}.port={port}" for part, port in ports.items()),
        *(f"-{part.lower()}.port.grpc={port}" for part, port in grpc.items()),
    ]


@contextlib.contextmanager
def seaweedfs(
    folder: Path,
    ports: Mapping[str, int] | None = None,
    starting: Starting = of_the_laptop,
    variables: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """A running store with its data in `folder`, with these variables over its own; yields its endpoint URL."""
    ports = ports or store_ports()
    command = starting(folder, ports)
    environment = store.environment(os.environ) | {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    environment |= variables or {}
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
