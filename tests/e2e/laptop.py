"""A tiny classifier on one machine: two classes of 16 px images that a few steps of training tell apart."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from tests.local_sagemaker.harness import REPOSITORY, ROLE, Server
from tests.object_store import KEY_ID, SECRET
from tests.shipped import copy_dags

BUCKET = "tiny-bucket"

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
  rules: {{LossNotDecreasing: warn, VanishingGradient: warn}}
  rule_parameters: {{LossNotDecreasing: {{num_steps: 2, diff_percent: 90}}}}  # which no training can satisfy for long
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


def airflow_environment(home: Path, dags: Path, server: Server, bucket: str = BUCKET) -> dict[str, str]:
    """What lets Airflow run these DAGs against a server and its store."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ENDPOINT_URL_S3": server.s3_endpoint,
        "RETRAINING_ENVIRONMENT": "local",
        "RETRAINING_BUCKET": bucket,
        "RETRAINING_ROLE_ARN": ROLE,
    }


def run_dag(dag: str, environment: dict[str, str], **conf: Any) -> tuple[str, str]:
    """The state of one run that went to its end, and what Airflow printed."""
    command = [sys.executable, str(REPOSITORY / "tests/run_dag.py"), dag, json.dumps(conf)]
    settings = os.environ | environment | {"PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=900)
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, output[-6000:]
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("RUN ")]
    return str(json.loads(line.removeprefix("RUN "))["state"]), output


class Laptop:
    """The server, a source folder, a recipe, and Airflow to run the DAG with."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.server = server
        self.source = folder / "images"
        self.dags = copy_dags(folder / "dags", recipes=())
        self.environment = airflow_environment(folder / "airflow", self.dags, server) | {
            "RETRAINING_RECIPES": str(folder / "recipes"),
            "RETRAINING_POLL_SECONDS": "1",
        }
        self.recipe = folder / "recipes/tiny.yaml"
        self.recipe.parent.mkdir()
        self.recipe.write_text(RECIPE.format(source=self.source))
        for kind in ("sky", "ground"):
            (self.source / kind).mkdir(parents=True)
            for seed in range(12):
                (self.source / kind / f"{seed}.png").write_bytes(draw(kind, seed))

    def run(self, **conf: Any) -> tuple[dict[str, Any], str]:
        """Run the DAG once; its report and what Airflow printed."""
        state, output = run_dag("retrain_tiny", self.environment, **conf)
        pages = self.server.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="tiny/runs/")
        reports = [item for page in pages for item in page.get("Contents", []) if item["Key"].endswith("/report.json")]
        assert reports, output[-6000:]
        newest = max(reports, key=lambda item: item["LastModified"])
        report = json.loads(self.server.s3.get_object(Bucket=BUCKET, Key=newest["Key"])["Body"].read())
        assert (state == "success") == (report["outcome"] != "failed"), output[-6000:]
        return report, output
