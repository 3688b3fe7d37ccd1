"""A training on shards, asked for as the DAG asks for it, gives the model that one on single files gives."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from retraining.container_images import resolve_images
from retraining.dataset.sync import sync_dataset
from retraining.environment import Environment
from retraining.plan import Plan
from retraining.recipe import read_recipe
from retraining.requests import sagemaker as requests
from retraining.source import Source
from tests.local_sagemaker.harness import REPOSITORY, ROLE, Server
from tests.local_sagemaker.test_training import archive
from tests.object_store import free_ports

BUCKET = "shards-bucket"
COLOURS = {"bläulich": (20, 20, 230), "green": (20, 230, 20), "red": (230, 20, 20)}
ENVIRONMENT = Environment.of(
    {
        "RETRAINING_ENVIRONMENT": "local",
        "RETRAINING_BUCKET": BUCKET,
        "RETRAINING_ROLE_ARN": ROLE,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("sagemaker")
    images = root / "images.toml"
    images.write_text(f'[[image]]\nmatch = ["*"]\ninterpreter = "{REPOSITORY / ".venv/ml/bin/python"}"\n')
    running = Server(root / "server", free_ports(1)[0], s3_endpoint, images)
    running.start()
    running.s3.create_bucket(Bucket=BUCKET)
    running.s3.put_object(Bucket=BUCKET, Key="sourcedir.tar.gz", Body=Source.read(REPOSITORY / "ml").packed())
    yield running
    running.stop()


@pytest.fixture(scope="module")
def trained(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """trained(sync.shards) -> of the job: the data, its channels, and the files of its artifact and output."""
    source, noise = tmp_path_factory.mktemp("images"), random.Random(5)
    for name, colour in COLOURS.items():
        (source / name).mkdir()
        for number in range(12):
            pixels = bytes(min(255, value + noise.randrange(25)) for _ in range(256) for value in colour)
            Image.frombytes("RGB", (16, 16), pixels).save(source / name / f"{number}.png")

    def train(shards: str) -> dict[str, Any]:
        data = {
            "name": "colours",
            "source": str(source),
            "sync": {"shards": shards},
            "hyperparameters": {"stem": "small", "image-size": 16, "epochs": 2, "batch-size": 8},
            "tuning": {"ranges": {"lr": {"type": "continuous", "min": 0.001, "max": 0.01}}},
            "debugger": {"mode": "off"},
        }
        plan = Plan.of(read_recipe(data, where="test"), ENVIRONMENT, datetime.now(UTC), uuid4().hex)
        fingerprint = sync_dataset(plan, server.s3).version.fingerprint
        given = {"stem": "small", "image-size": "16", "epochs": "2", "batch-size": "8", "serving": "torch"}
        request = requests.training_job(
            plan, resolve_images(plan.recipe, ENVIRONMENT), fingerprint, f"s3://{BUCKET}/sourcedir.tar.gz", given
        )
        server.sagemaker.create_training_job(**request)
        job = server.wait(
            lambda: server.sagemaker.describe_training_job(TrainingJobName=plan.training_job),
            "TrainingJobStatus",
            timeout_s=300,
        )
        assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
        model = job["ModelArtifacts"]["S3ModelArtifacts"]
        found = {"fingerprint": fingerprint, "channels": job["InputDataConfig"]}
        for uri in (model, model.replace("model.tar.gz", "output.tar.gz")):
            with archive(server, uri) as tar:
                found |= {name: tar.extractfile(name).read() for name in tar.getnames() if "." in Path(name).name}  # type: ignore[union-attr]
        return found

    return train


@pytest.mark.slow
def test_files_and_shards_train_the_same_model(trained: Callable[[str], dict[str, Any]]) -> None:
    files, whole, streamed = (trained(shards) for shards in ("off", "File", "FastFile"))
    modes = [[channel["InputMode"] for channel in job["channels"]] for job in (files, whole, streamed)]
    assert modes == [["File"] * 3, ["File"] * 3, ["FastFile", "FastFile", "File"]]
    for job in (whole, streamed):
        assert job["fingerprint"] == files["fingerprint"]
        assert job["model.safetensors"] == files["model.safetensors"]
        assert json.loads(job["labels.json"]) == json.loads(files["labels.json"])
