"""The five student projects, each on a small look-alike of its data, through the real path once a session.

archive in the makers' format → importer → recipe as shipped, sizes shrunk → sync → CreateTrainingJob on a real
local_sagemaker → model.tar.gz → endpoint.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from retraining.container_images import Images, resolve_images
from retraining.dataset.public.data_sets import IMPORTERS
from retraining.dataset.sync import Synced, sync_dataset
from retraining.environment import Environment
from retraining.plan import Plan
from retraining.pretrained.staging import Target, stage
from retraining.pretrained.weights_file import read_weights_file
from retraining.recipe import Recipe, load_recipe
from retraining.recipe.tracking import Tracking, Wandb
from retraining.requests import sagemaker as requests
from retraining.source import Source
from tests import look_alikes
from tests.local_sagemaker.harness import REPOSITORY, ROLE, Server
from tests.object_store import free_ports

BUCKET = "projects-bucket"
ENVIRONMENT = Environment.of(
    {
        "RETRAINING_ENVIRONMENT": "local",
        "RETRAINING_BUCKET": BUCKET,
        "RETRAINING_ROLE_ARN": ROLE,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
)


def shipped(recipe: str) -> Recipe:
    return load_recipe(REPOSITORY / f"dags/recipes/{recipe}.yaml")


def plan_of(recipe: Recipe, run_id: str = "manual__1") -> Plan:
    return Plan.of(recipe, ENVIRONMENT, datetime(2026, 11, 21, 3, tzinfo=UTC), run_id)


def tuning_request(recipe: Recipe) -> dict[str, Any]:
    """CreateHyperParameterTuningJob of a recipe."""
    return requests.tuning_job(
        plan_of(recipe), resolve_images(recipe, ENVIRONMENT), "f" * 20, "s3://b/sourcedir.tar.gz"
    )


def training_request(recipe: Recipe) -> dict[str, Any]:
    images = resolve_images(recipe, ENVIRONMENT)
    return requests.training_job(plan_of(recipe), images, "f" * 20, "s3://b/sourcedir.tar.gz", {"lr": "0.001"})


def ranges(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Hyperparameter → its range, as SageMaker is asked for it."""
    asked = tuning_request(recipe)["HyperParameterTuningJobConfig"]["ParameterRanges"]
    return {entry["Name"]: entry for entries in asked.values() for entry in entries}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One training job that has ended well."""

    server: Server
    plan: Plan
    images: Images
    synced: Synced
    weights: Path
    """The file its training started from."""
    job: dict[str, Any]
    folder: Path
    """Its model.tar.gz, unpacked."""

    @property
    def description(self) -> dict[str, Any]:
        """model.json of the artifact."""
        return dict(json.loads((self.folder / "model.json").read_text()))

    @property
    def final_metrics(self) -> dict[str, float]:
        return {metric["MetricName"]: metric["Value"] for metric in self.job["FinalMetricDataList"]}

    def log(self) -> list[str]:
        pages = self.server.logs.get_paginator("filter_log_events").paginate(
            logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=self.plan.training_job
        )
        return [event["message"] for page in pages for event in page["events"]]

    def output(self) -> dict[str, bytes]:
        """What the job left beside its model: output.tar.gz, by file name."""
        body = self._download(self.job["ModelArtifacts"]["S3ModelArtifacts"].replace("model.tar.gz", "output.tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]

    def image(self, split: str, label: str) -> bytes:
        """One of its own images."""
        (found, *_) = [i for i in self.synced.version.images if i.split == split and i.label == label]
        return found.file.path.read_bytes()

    def unpack(self, target: Path) -> Path:
        with tarfile.open(fileobj=io.BytesIO(self._download(self.job["ModelArtifacts"]["S3ModelArtifacts"]))) as tar:
            tar.extractall(target, filter="data")
        return target

    def _download(self, uri: str) -> bytes:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return bytes(self.server.s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def by_hand(images: Path, out: Path, **hyperparameters: Any) -> subprocess.CompletedProcess[str]:
    """train.py as anybody would start it on a folder with train and validation; two epochs at 16 px unless told."""
    given = {"stem": "small", "image-size": 16, "batch-size": 16, "epochs": 2, "lr": 0.002, "serving": "torch"}
    given |= hyperparameters
    folders = {"train-dir": images / "train", "validation-dir": images / "validation", "model-dir": out / "model"}
    folders |= {"output-data-dir": out / "data", "output-dir": out}
    flags = [str(word) for name, value in (given | folders).items() for word in (f"--{name}", value)]
    # Nothing of SageMaker, nor of a tracker, from the surroundings.
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [str(look_alikes.ML_PYTHON), str(REPOSITORY / "ml/train.py"), *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="session")
def images_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """images_of("dogs"): the look-alike, imported from its archive."""

    @cache
    def imported(data_set: str) -> Path:
        folder = tmp_path_factory.mktemp(data_set)
        archive = look_alikes.archive(data_set, folder)
        IMPORTERS[data_set](str(archive), folder / "images")
        return folder / "images"

    return imported


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Server]:
    if not look_alikes.ML_PYTHON.exists():
        pytest.skip("the ml environment is not made")
    folder = tmp_path_factory.mktemp("sagemaker")
    server = Server(folder, free_ports(1)[0], s3_endpoint, REPOSITORY / "stack/images.toml")
    server.start()
    server.s3.create_bucket(Bucket=BUCKET)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def trained(
    server: Server, images_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Trained]:
    """trained("dogs", "dogs", epochs=3): the recipe's final training at 32 px, on the data set's look-alike."""
    source = f"s3://{BUCKET}/code/sourcedir.tar.gz"
    server.s3.put_object(Bucket=BUCKET, Key="code/sourcedir.tar.gz", Body=Source.read(REPOSITORY / "ml").packed())

    @cache
    def weights(architecture: str) -> tuple[Path, str]:
        path = look_alikes.random_weights(architecture, tmp_path_factory.mktemp("weights") / f"{architecture}.pth")
        return path, stage(read_weights_file(path), architecture, Target.of(f"s3://{BUCKET}"), server.s3).uri

    def train(
        recipe_name: str, data_set: str, changes: Callable[[Recipe], Recipe] = lambda r: r, **sizes: Any
    ) -> Trained:
        recipe = changes(shipped(recipe_name))
        path, uri = weights(str(recipe.hyperparameters["arch"]))
        small = {"weights": "channel", "image-size": 32} | (
            {"start-size": 0} if "start-size" in recipe.hyperparameters else {}
        )
        recipe = replace(
            recipe,
            source=str(images_of(data_set)),
            pretrained=uri,
            hyperparameters=recipe.hyperparameters | small,
            training=replace(recipe.training, spot=False),
        )
        plan = plan_of(recipe, run_id=recipe_name)
        synced = sync_dataset(plan, server.s3)
        images = resolve_images(recipe, ENVIRONMENT)
        chosen = recipe.hyperparameters | {"objective": recipe.tuning.objective} | sizes
        given = {name: requests.as_text(value) for name, value in chosen.items()}
        request = requests.training_job(plan, images, synced.version.fingerprint, source, given)
        # The rules judge it in tests/e2e; here what they would read is enough.
        for key in ("DebugRuleConfigurations", "ProfilerRuleConfigurations"):
            request.pop(key, None)
        server.sagemaker.create_training_job(**request)
        job = server.wait(
            lambda: server.sagemaker.describe_training_job(TrainingJobName=plan.training_job),
            "TrainingJobStatus",
            timeout_s=300,
        )
        assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
        done = Trained(
            server=server, plan=plan, images=images, synced=synced, weights=path, job=job, folder=Path("/nonexistent")
        )
        return replace(done, folder=done.unpack(tmp_path_factory.mktemp("model")))

    return train


@pytest.fixture(scope="session")
def endpoint(server: Server) -> Callable[[Trained], Callable[..., Any]]:
    """endpoint(trained) → ask(body, content_type, accept=…): the raw body of the answer, through boto3."""

    ready: set[str] = set()

    def deploy(trained: Trained) -> None:
        plan = trained.plan
        artifact = trained.job["ModelArtifacts"]["S3ModelArtifacts"]
        server.sagemaker.create_model(**requests.model(plan, plan.model, trained.images.serving, artifact))
        server.sagemaker.create_endpoint_config(**requests.endpoint_config(plan))
        server.sagemaker.create_endpoint(**requests.endpoint(plan, plan.endpoint_config))
        answer = server.wait(lambda: server.sagemaker.describe_endpoint(EndpointName=plan.endpoint), "EndpointStatus")
        assert answer["EndpointStatus"] == "InService", answer
        ready.add(plan.endpoint)

    def ask_of(trained: Trained) -> Callable[..., Any]:
        name = trained.plan.endpoint
        if name not in ready:
            deploy(trained)

        def ask(body: bytes, content_type: str, accept: str = "application/json") -> bytes:
            answer = server.runtime.invoke_endpoint(
                EndpointName=name, ContentType=content_type, Accept=accept, Body=body
            )
            return bytes(answer["Body"].read())

        return ask

    return ask_of


@pytest.fixture(scope="session")
def dogs(trained: Callable[..., Trained]) -> Trained:
    """With the collection of tensors that the first project saved beside the usual ones."""
    regex = ".*ReLU_output|.*ResNet_input|.*image|.*CrossEntropyLoss"
    own = {"include_regex": regex, "train.save_interval": 25, "eval.save_interval": 25}

    def watched(recipe: Recipe) -> Recipe:
        return replace(recipe, debugger=replace(recipe.debugger, collections={"custom_collection": own}))

    return trained("dogs", "dogs", watched, epochs=3, lr=0.002, optimizer="adam", serving="torch", **{"batch-size": 8})


@pytest.fixture(scope="session")
def frozen(trained: Callable[..., Trained]) -> Trained:
    """The CIFAR-100 project as it was."""
    return trained("cifar100_frozen", "cifar100", epochs=3, lr=0.002, serving="torch", **{"batch-size": 16})


@pytest.fixture(scope="session")
def xrays(trained: Callable[..., Trained]) -> Trained:
    """With W&B offline, as a recipe asks for it, and a boolean that is false."""

    def tracked(recipe: Recipe) -> Recipe:
        return replace(recipe, tracking=Tracking(wandb=Wandb(project="x-rays")))

    return trained("chest_xray", "chest_xray", tracked, epochs=4, lr=0.002, deterministic=False, **{"batch-size": 16})
