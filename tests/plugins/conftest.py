"""A real S3 (SeaweedFS) for the edge, and a plan to work with for all."""

from __future__ import annotations

import os
import sys
import tempfile
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
from tests.local_sagemaker.harness import Server
from tests.object_store import CLIENT, KEY_ID, SECRET, free_ports


@pytest.fixture(scope="session")
def s3(s3_endpoint: str) -> Any:
    """A boto3 client of the session's SeaweedFS."""
    return boto3.client("s3", endpoint_url=s3_endpoint, **CLIENT)


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
def sagemaker(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A boto3 client of a local_sagemaker for the session, whose only image is this interpreter.

    The provider's hooks reach it through AWS_ENDPOINT_URL, as they do in a real installation.
    """
    folder, (port,) = tmp_path_factory.mktemp("sagemaker"), free_ports(1)
    images = folder / "images.toml"
    images.write_text(
        f'[[image]]\nmatch = ["*"]\ninterpreter = "{sys.executable}"\nserve = ["{folder / "serve.py"}"]\n'
    )
    (folder / "serve.py").write_text(SERVE)
    server = Server(folder / "state", port, s3_endpoint, images)
    environment = {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
    }
    patched = pytest.MonkeyPatch()
    for name, value in environment.items():
        patched.setenv(name, value)
    try:
        server.start()
        yield server.sagemaker
    finally:
        patched.undo()
        server.stop()


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
