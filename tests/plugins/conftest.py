"""A real S3 (SeaweedFS) for the edge, and a plan to work with for all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest

# Before anything imports airflow, and only where no other conftest has already done so.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-test-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__PLUGINS_FOLDER", str(Path(__file__).parents[2] / "plugins"))

from retraining.environment import Environment
from retraining.plan import Plan
from retraining.recipe import Recipe, read_recipe

KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing-secret"}
ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    """Ports that are free together with the gRPC port SeaweedFS opens 10,000 above each."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port = low.getsockname()[1]
            if port + 10_000 > 65_535 or port in ports:
                continue
            try:
                high.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            ports.append(port)
    return ports


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A boto3 client of a SeaweedFS that lives for the session."""
    folder = tmp_path_factory.mktemp("s3")
    port, master, volume, filer, admin = free_ports(5)
    command = [
        str(Path(sys.executable).with_name("weed")), "-logtostderr=true", "mini", f"-dir={folder}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={port}", f"-master.port={master}",
        f"-volume.port={volume}", f"-filer.port={filer}", f"-admin.port={admin}", "-s3.port.iceberg=0",
        "-s3.port.lance=0", "-webdav=false", "-admin.ui=false", "-master.telemetry=false", "-disableHttp",
        "-s3.autoCreateBucket=false",
    ]  # fmt: skip
    keys = {"AWS_ACCESS_KEY_ID": KEYS["aws_access_key_id"], "AWS_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"]}
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | keys, stdout=log, stderr=log, cwd=folder)
    try:
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1", **KEYS)
        _wait_until_ready(client, folder / "weed.log")
        yield client
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(client: Any, log: Path) -> None:
    """It answers ListBuckets seconds before it can keep an object, so only a read of a written object counts."""
    deadline = time.monotonic() + 40
    while True:
        try:
            if not client.list_buckets()["Buckets"]:
                client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"1")
            client.get_object(Bucket="ready", Key="ready")["Body"].read()
            return
        except Exception:
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
            time.sleep(0.2)


@pytest.fixture
def bucket(s3: Any) -> str:
    """A bucket of one test's own."""
    name = f"test-{uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def recipe_data() -> dict[str, Any]:
    """A small valid recipe, as YAML would give it; tests break it in one place."""
    return {
        "name": "shapes",
        "source": "bundled://digits",
        "hyperparameters": {"arch": "resnet18", "epochs": 2},
        "tuning": {"ranges": {"lr": {"type": "continuous", "min": 0.001, "max": 0.1, "scaling": "Logarithmic"}}},
    }


@pytest.fixture
def recipe(recipe_data: dict[str, Any]) -> Recipe:
    return read_recipe(recipe_data, where="test")


@pytest.fixture
def make_plan(recipe_data: dict[str, Any]) -> Callable[..., Plan]:
    """make_plan(bucket, source=…, …): a plan of the small recipe with some keys replaced."""

    def make(bucket: str = "a-bucket", **changes: Any) -> Plan:
        environment = Environment.of(
            {
                "RETRAINING_ENVIRONMENT": "local",
                "RETRAINING_BUCKET": bucket,
                "RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/local-sagemaker",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        )
        recipe = read_recipe(recipe_data | changes, where="test")
        return Plan.of(recipe, environment, datetime(2026, 11, 21, 3, tzinfo=UTC), "manual__1")

    return make


@pytest.fixture(scope="session")
def sagemaker(s3: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A boto3 client of a local_sagemaker for the session, whose only image is this interpreter.

    The provider's hooks reach it through AWS_ENDPOINT_URL, as they do in a real installation.
    """
    folder, (port,) = tmp_path_factory.mktemp("sagemaker"), free_ports(1)
    images = folder / "images.toml"
    images.write_text(
        f'[[image]]\nmatch = ["*"]\ninterpreter = "{sys.executable}"\nserve = ["{folder / "serve.py"}"]\n'
    )
    (folder / "serve.py").write_text(SERVE)
    environment = {
        "AWS_ACCESS_KEY_ID": KEYS["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ENDPOINT_URL_S3": s3.meta.endpoint_url,
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
    }
    command = [sys.executable, "-m", "local_sagemaker", "--port", str(port), "--root", str(folder / "state")]
    patched = pytest.MonkeyPatch()
    for name, value in environment.items():
        patched.setenv(name, value)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--images", str(images), "--stop-grace", "1"], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        client = boto3.client("sagemaker")
        deadline = time.monotonic() + 40
        while True:
            try:
                client.list_training_jobs()
                break
            except Exception:
                assert time.monotonic() < deadline, (folder / "server.log").read_text(errors="replace")[-2000:]
                time.sleep(0.2)
        yield client
    finally:
        patched.undo()
        process.terminate()
        process.wait(30)


# A model server that starts only for a model that wants to.
SERVE = """
import http.server, os, pathlib, sys
if (pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"]) / "model" / "refuses").exists():
    sys.exit("this model refuses to start")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""
