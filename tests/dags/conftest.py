"""Airflow in a temporary home, and a local stack whose jobs take a second instead of minutes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from tests import airflow_database
from tests.local_sagemaker.harness import Server
from tests.object_store import KEY_ID, SECRET, free_ports
from tests.shipped import ROOT, copy_dags

PROGRAMS = Path(__file__).parent / "programs"

# Before anything imports airflow, and only where no other conftest has already done so.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-test-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__PLUGINS_FOLDER", str(ROOT / "plugins"))


class Stack:
    """A store, a SageMaker server and an Airflow database, for the DAG `retrain_colors`."""

    def __init__(self, folder: Path, s3_endpoint: str, bucket: str = "") -> None:
        self.bucket = bucket or f"retraining-{uuid4().hex[:12]}"  # the store is the session's
        images = folder / "images.toml"
        images.write_text(
            f'[[image]]\nmatch = ["*"]\ninterpreter = "{sys.executable}"\nserve = ["{PROGRAMS / "serve.py"}"]\n'
        )
        self.server = Server(folder / "sagemaker", free_ports(1)[0], s3_endpoint, images)
        self.environment = os.environ | {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.server.url,
            "AWS_ENDPOINT_URL_S3": s3_endpoint,
            "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(copy_dags(folder / "dags", recipes=())),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "PYTHONPATH": str(ROOT),  # of run_dag.py; Airflow finds plugins/ by itself
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "RETRAINING_ENVIRONMENT": "local",
            "RETRAINING_BUCKET": self.bucket,
            "RETRAINING_ROLE_ARN": "arn:aws:iam::000000000000:role/local-sagemaker",
            "RETRAINING_SOURCE_DIR": str(PROGRAMS),
            "RETRAINING_RECIPES": str(folder / "recipes"),
            "RETRAINING_POLL_SECONDS": "0.2",
        }  # fmt: skip

    def start(self) -> None:
        self.server.start()
        self.server.s3.create_bucket(Bucket=self.bucket)
        airflow_database.make(Path(self.environment["AIRFLOW_HOME"]))

    def run(self, *confs: dict[str, Any], mark: str = "", back: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Trigger retrain_colors once per configuration → state and task states of each run.

        With `back` then rollback_colors. `mark`, such as failed:deploy, marks the last run so while that task waits.
        """
        command = [sys.executable, str(ROOT / "tests/run_dag.py"), "retrain_colors", *map(json.dumps, confs)]
        command += [f"rollback_colors {json.dumps(back)}"] if back else []
        environment = self.environment | {"MARK_RUN": mark}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        runs = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("RUN ")]
        assert len(runs) == len(confs) + bool(back), done.stdout[-3000:] + done.stderr[-3000:]
        return runs

    def reports(self) -> list[dict[str, Any]]:
        """Every run's report.json, oldest first."""
        s3 = self.server.s3
        listed = s3.list_objects_v2(Bucket=self.bucket, Prefix="colors/runs/").get("Contents", [])
        keys = sorted(entry["Key"] for entry in listed if entry["Key"].endswith("/report.json"))
        return [json.loads(s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()) for key in keys]

    def pages(self) -> list[str]:
        """Every run's report.html, oldest first."""
        s3 = self.server.s3
        listed = s3.list_objects_v2(Bucket=self.bucket, Prefix="colors/runs/").get("Contents", [])
        keys = sorted(entry["Key"] for entry in listed if entry["Key"].endswith("/report.html"))
        return [s3.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode() for key in keys]

    def champion(self) -> dict[str, Any] | None:
        s3 = self.server.s3
        try:
            return json.loads(s3.get_object(Bucket=self.bucket, Key="colors/champion.json")["Body"].read())
        except s3.exceptions.NoSuchKey:
            return None


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    """Thirty noisy squares each of red, green and blue, as class folders."""
    chance = random.Random(1)
    for label, (red, green, blue) in {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}.items():
        folder = tmp_path / "colors" / label
        folder.mkdir(parents=True)
        for number in range(30):
            shade = tuple(value + chance.randint(-25, 25) for value in (red, green, blue))
            image = Image.new("RGB", (16, 16), shade)
            image.putpixel((number % 16, number // 16), (255, 255, 255))
            image.save(folder / f"{number}.png")
    return tmp_path / "colors"


@pytest.fixture
def stack(tmp_path: Path, colors: Path, s3_endpoint: str) -> Iterator[Stack]:
    running = Stack(tmp_path, s3_endpoint)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "colors.yaml").write_text(
        f"""
name: colors
source: {colors}
hyperparameters: {{epochs: 2}}
tuning: {{max_jobs: 2, max_parallel_jobs: 2, ranges: {{lr: {{type: continuous, min: 0.001, max: 0.1}}}}}}
debugger: {{mode: "off"}}
promotion: {{min_value: 0.2}}
"""
    )
    try:
        running.start()
        yield running
    finally:
        running.server.stop()


@pytest.fixture
def write_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """write_recipe(name, text): a recipe file that the DAG files find beside dags/recipes."""
    folder = tmp_path / "extra-recipes"
    folder.mkdir()
    monkeypatch.setenv("RETRAINING_RECIPES", str(folder))

    def write(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(text)
        return path

    return write
