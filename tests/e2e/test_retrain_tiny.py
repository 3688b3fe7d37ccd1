"""One DAG from an image folder to an answering endpoint: real Airflow, real server, real training, nothing faked.

Two classes of 16 px images that a few steps of training tell apart. The DAG runs by `airflow dags test`, which carries
its triggers in the same process, so that no scheduler is needed.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.local_sagemaker.harness import REPOSITORY, ROLE, Server
from tests.object_store import KEY_ID, SECRET, free_ports

BUCKET = "tiny-bucket"

pytestmark = pytest.mark.slow

RECIPE = """
name: tiny
source: {source}
split: {{train: 0.5, validation: 0.25, test: 0.25}}
schedule: "0 3 * * 1"
training: {{instance_type: ml.m5.large, volume_size_gb: 5, max_runtime_seconds: 300, spot: false}}
serving: {{instance_type: ml.m5.large, instance_count: 1}}
hyperparameters:
  {{arch: resnet18, stem: small, image-size: 16, epochs: 4, batch-size: 2, optimizer: adam, weights: none, seed: 1}}
tuning:
  objective: validation:accuracy
  goal: Maximize
  strategy: Random
  max_jobs: 2
  max_parallel_jobs: 2
  early_stopping: "Off"
  ranges: {{lr: {{type: continuous, min: 0.0005, max: 0.002, scaling: Logarithmic}}}}
debugger:
  mode: managed
  rules: {{LossNotDecreasing: warn, VanishingGradient: warn}}
  profiler: true
  save_interval: 1
promotion: {{metric: accuracy, min_improvement: 0.0, min_value: 0.6}}
approval: false
endpoint: tiny-endpoint
"""


def draw(kind: str, seed: int) -> bytes:
    """A noisy 16 px image: bright at the top for 'sky', at the bottom for 'ground'."""
    noise = random.Random(f"{kind}{seed}")
    image = Image.new("RGB", (16, 16))
    for x in range(16):
        for y in range(16):
            bright = (y < 8) == (kind == "sky")
            image.putpixel((x, y), tuple(noise.randrange(150, 256) if bright else noise.randrange(90) for _ in "rgb"))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class Laptop:
    """The server, a source folder, a recipe, and Airflow to run the DAG with."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.server = server
        self.source = folder / "images"
        self._environment = os.environ | {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ENDPOINT_URL_S3": server.s3_endpoint,
            "RETRAINING_ENVIRONMENT": "local",
            "RETRAINING_BUCKET": BUCKET,
            "RETRAINING_ROLE_ARN": ROLE,
            "RETRAINING_RECIPES": str(folder / "recipes"),
            "RETRAINING_POLL_SECONDS": "1",
        }
        (folder / "recipes").mkdir()
        (folder / "recipes/tiny.yaml").write_text(RECIPE.format(source=self.source))
        for kind in ("sky", "ground"):
            (self.source / kind).mkdir(parents=True)
            for seed in range(12):
                (self.source / kind / f"{seed}.png").write_bytes(draw(kind, seed))
        self.airflow("db", "migrate")

    def airflow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("airflow")), *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=900)

    def run(self, **conf: Any) -> tuple[dict[str, Any], str]:
        """Run the DAG once; its report and what Airflow printed."""
        result = self.airflow("dags", "test", "retrain_tiny", "--conf", json.dumps(conf))
        output = result.stdout + result.stderr
        pages = self.server.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="tiny/runs/")
        reports = [item for page in pages for item in page.get("Contents", []) if item["Key"].endswith("/report.json")]
        assert reports, output[-6000:]
        newest = max(reports, key=lambda item: item["LastModified"])
        report = json.loads(self.server.s3.get_object(Bucket=BUCKET, Key=newest["Key"])["Body"].read())
        assert (result.returncode == 0) == (report["outcome"] != "failed"), output[-6000:]
        return report, output


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Laptop]:
    folder = tmp_path_factory.mktemp("laptop")
    server = Server(folder / "sagemaker", free_ports(1)[0], s3_endpoint, REPOSITORY / "stack/images.toml")
    server.start()
    server.s3.create_bucket(Bucket=BUCKET)
    yield Laptop(folder, server)
    server.stop()


@pytest.fixture(scope="module")
def first(laptop: Laptop) -> dict[str, Any]:
    report, output = laptop.run()
    assert report["outcome"] == "promoted", f"{report['reason']}\n{output[-6000:]}"
    return report


def test_model_is_promoted_on_images_it_never_saw(first: dict[str, Any]) -> None:
    assert first["candidate"]["accuracy"] >= 0.6
    assert first["candidate"]["n"] == sum(first["dataset"]["counts"]["test"].values())
    assert len(first["tuning"]["trials"]) == 2
    assert {rule["rule"] for rule in first["rules"]} >= {"LossNotDecreasing", "VanishingGradient", "ProfilerReport"}
    assert not [rule for rule in first["rules"] if rule["status"] == "Error"]


def test_endpoint_tells_the_classes_apart(laptop: Laptop, first: dict[str, Any]) -> None:
    answers = [
        json.loads(
            laptop.server.runtime.invoke_endpoint(
                EndpointName="tiny-endpoint", ContentType="image/png", Body=draw(kind, 100 + seed)
            )["Body"].read()
        )["label"]
        == kind
        for kind in ("sky", "ground")
        for seed in range(5)
    ]
    assert sum(answers) >= 7


def test_profiler_report_shows_this_jobs_curves(laptop: Laptop, first: dict[str, Any]) -> None:
    bucket, _, key = first["profiler_report"].removeprefix("s3://").partition("/")
    page = laptop.server.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    assert first["training"]["job"] in page
    assert "<svg" in page


def test_unchanged_data_skips_and_force_updates_the_serving_endpoint(laptop: Laptop, first: dict[str, Any]) -> None:
    report, _ = laptop.run()
    assert report["outcome"] == "skipped"
    before = laptop.server.sagemaker.describe_endpoint(EndpointName="tiny-endpoint")
    report, output = laptop.run(force=True)
    after = laptop.server.sagemaker.describe_endpoint(EndpointName="tiny-endpoint")
    assert report["outcome"] in {"promoted", "kept"}, output[-6000:]
    assert report["champion"]["n"] == report["candidate"]["n"]
    assert (after["EndpointConfigName"] != before["EndpointConfigName"]) == (report["outcome"] == "promoted")
    assert after["CreationTime"] == before["CreationTime"]


def test_folder_of_one_class_stops_before_any_job(laptop: Laptop, first: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    for seed in range(8):
        (tmp_path / "only" / f"{seed}.png").write_bytes(draw("sky", seed))
    jobs = laptop.server.sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"]
    report, output = laptop.run(source=str(tmp_path))
    assert report["outcome"] == "failed"
    assert "class" in report["reason"], output[-3000:]
    assert laptop.server.sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"] == jobs
