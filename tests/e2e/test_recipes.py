"""Every recipe for a public data set, through the whole DAG: archive in the makers' format → endpoint that answers.

One stack for all: a real store, a real local_sagemaker, real Airflow, real training. Of a recipe only sizes are changed
(pixels, epochs, batches, trials), its source, whether shards are read, and where its weights come from: a file staged
by the command, as there is no network. Its networks, heads, samplers, augmentation, objective, debugger, gates and
names are those shipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from retraining.container_images import resolve_images
from retraining.dataset.sync import sync_dataset
from retraining.environment import Environment
from retraining.plan import Plan
from retraining.recipe import load_recipe
from retraining.recipe.hyperparameters import as_text
from retraining.requests.sagemaker import training_job
from retraining.source import Source
from tests import airflow_database, look_alikes
from tests.e2e.laptop import airflow_environment, run_dag
from tests.local_sagemaker.harness import REPOSITORY, Server
from tests.object_store import CLIENT, free_ports

BUCKET = "recipes-bucket"
DATA_SETS = {"dogs": "dogs", "cifar100": "cifar100", "cifar100_frozen": "cifar100", "chest_xray": "chest_xray"}
RECIPES = list(DATA_SETS)
SHARDS = {"dogs": "File", "cifar100": "FastFile"}
"""Recipes whose trainings read shards here, and how; the others read single files."""

pytestmark = pytest.mark.slow


def shrunk(recipe: str, source: Path, weights: str) -> dict[str, Any]:
    """A shipped recipe for images of 32 px and a minute."""
    data: dict[str, Any] = yaml.safe_load((REPOSITORY / f"dags/recipes/{recipe}.yaml").read_text())
    given, tuning = data["hyperparameters"], data["tuning"]
    given |= {"image-size": 32, "weights": "channel"} | ({"start-size": 16} if "start-size" in given else {})
    tuning |= {"max_jobs": 1, "max_parallel_jobs": 1}
    # The one trial draws its rate from all of the recipe's range, which some optimizers need more steps for.
    tuning["ranges"]["epochs"] |= {"min": 8, "max": 9}
    tuning["ranges"]["batch-size"]["values"] = [8, 16]
    data["training"]["spot"] = False  # no checkpoints: each would be ten times the images
    data["sync"] = data.get("sync", {}) | {"shards": SHARDS.get(recipe, "off")}
    return data | {"source": str(source), "pretrained": weights, "approval": False}


class Stack:
    """A server, a store, and Airflow with the shrunk recipes as its DAGs."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        # Not the server's own client: the words for a rule that was met end in a line feed, as AWS's do, and the
        # service model that it holds answers against allows none.
        self.sagemaker = boto3.client("sagemaker", endpoint_url=server.url, **CLIENT)
        self.environment = os.environ | airflow_environment(folder / "airflow", folder / "dags", server, BUCKET)
        self.environment |= {"PYTHONPATH": str(REPOSITORY / "plugins"), "RETRAINING_POLL_SECONDS": "0.5"}
        (folder / "dags/recipes").mkdir(parents=True)
        (folder / "dags/retrain_classifier.py").write_text((REPOSITORY / "dags/retrain_classifier.py").read_text())
        self.images = cache(self._import)
        self.weights = cache(self._stage)

    def call(self, *command: object) -> str:
        ended = subprocess.run(
            [str(word) for word in command], env=self.environment, capture_output=True, text=True, timeout=900
        )
        assert ended.returncode == 0, (ended.stdout + ended.stderr)[-6000:]
        return ended.stdout

    def _import(self, data_set: str) -> Path:
        target = self.folder / "images" / data_set
        target.parent.mkdir(exist_ok=True)
        source = look_alikes.archive(data_set, self.folder)
        self.call(sys.executable, "-m", "retraining.dataset", "import", data_set, source, target)
        return target

    def _stage(self, architecture: str) -> str:
        path = look_alikes.random_weights(architecture, self.folder / f"{architecture}.pth")
        line = self.call(sys.executable, "-m", "retraining.pretrained", path, f"s3://{BUCKET}/weights")
        return line.strip().removeprefix("pretrained: ")

    def write_recipe(self, recipe: str) -> None:
        shipped = yaml.safe_load((REPOSITORY / f"dags/recipes/{recipe}.yaml").read_text())
        data = shrunk(recipe, self.images(DATA_SETS[recipe]), self.weights(shipped["hyperparameters"]["arch"]))
        (self.folder / f"dags/recipes/{recipe}.yaml").write_text(yaml.safe_dump(data))

    def run(self, name: str) -> dict[str, Any]:
        """Run the DAG of the recipe of this name; its report."""
        _, output = run_dag(f"retrain_{name}", self.environment)
        listed = self.server.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{name}/runs/")["Contents"]
        (key,) = [item["Key"] for item in listed if item["Key"].endswith("/report.json")]
        report: dict[str, Any] = json.loads(self.server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        assert report["outcome"] == "promoted", f"{report['reason']}\n{output[-6000:]}"
        return report

    def ask(self, endpoint: str, body: bytes) -> dict[str, Any]:
        answer = self.server.runtime.invoke_endpoint(EndpointName=endpoint, ContentType="image/jpeg", Body=body)
        return dict(json.loads(answer["Body"].read()))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Stack]:
    if not look_alikes.ML_PYTHON.exists():
        pytest.skip("the ml environment is not made")
    folder = tmp_path_factory.mktemp("recipes")
    server = Server(folder / "sagemaker", free_ports(1)[0], s3_endpoint, REPOSITORY / "stack/images.toml")
    server.start()
    server.s3.create_bucket(Bucket=BUCKET)
    stack = Stack(folder, server)
    for recipe in RECIPES:
        stack.write_recipe(recipe)
    airflow_database.make(folder / "airflow")
    yield stack
    server.stop()


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_becomes_an_endpoint_that_tells_its_classes_apart(stack: Stack, recipe: str) -> None:
    data_set, name = DATA_SETS[recipe], recipe.replace("_", "-")
    report = stack.run(name)
    assert report["candidate"]["n"] == sum(report["dataset"]["counts"]["test"].values())
    assert report["candidate"]["accuracy"] >= 0.8
    job = stack.sagemaker.describe_training_job(TrainingJobName=report["training"]["job"])
    shipped = yaml.safe_load((REPOSITORY / f"dags/recipes/{recipe}.yaml").read_text())["hyperparameters"]
    for key in shipped.keys() - {"image-size", "start-size", "weights"}:
        assert job["HyperParameters"][key] == str(shipped[key]), key
    answers = [
        stack.ask(f"retraining-{name}", look_alikes.unseen(data_set, label, seed))["label"] == label
        for label in report["dataset"]["classes"]
        for seed in range(3)
    ]
    assert sum(answers) >= 0.8 * len(answers)


def test_two_instances_of_a_recipe_train_one_model(stack: Stack) -> None:
    """`distribution: torchrun` of a recipe, as the request of its final training."""
    recipe = load_recipe(REPOSITORY / "dags/recipes/digits.yaml")
    recipe = replace(
        recipe,
        name="together",
        source=str(stack.images("cifar100")),
        training=replace(recipe.training, instance_count=2, distribution="torchrun"),
        debugger=replace(recipe.debugger, mode="off"),
        hyperparameters=recipe.hyperparameters | {"epochs": 2},
    )
    environment = Environment.of(stack.environment)
    plan = Plan.of(recipe, environment, datetime(2026, 11, 21, 3, tzinfo=UTC), "manual__1")
    version = sync_dataset(plan, stack.server.s3).version
    body = Source.read(environment.source_dir).packed()
    stack.server.s3.put_object(Bucket=BUCKET, Key="together/sourcedir.tar.gz", Body=body)
    chosen = {name: as_text(value) for name, value in recipe.hyperparameters.items()} | {"batch-size": "16"}
    request = training_job(
        plan, resolve_images(recipe, environment), version.fingerprint, plan.uri("together/sourcedir.tar.gz"), chosen
    )
    stack.sagemaker.create_training_job(**request)
    describe = partial(stack.sagemaker.describe_training_job, TrainingJobName=plan.training_job)
    job = stack.server.wait(describe, "TrainingJobStatus", timeout_s=600)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    events = stack.server.logs.filter_log_events(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=plan.training_job
    )["events"]
    said = [event["message"] for event in events]
    assert "2 processes share each batch of 16 images" in said
    assert sum(line.startswith("best epoch=") for line in said) == 1
