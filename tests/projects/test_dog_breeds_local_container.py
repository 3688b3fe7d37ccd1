"""The project "Dog Breed Classifier": developed in a local container, optimizers searched, truncated images met.

Its fault, gone: LOAD_TRUNCATED_IMAGES, which trains on pictures whose lower part is grey without a word.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from retraining.dataset.sync import sync_dataset
from retraining.recipe import read_recipe
from retraining.recipe.hyperparameters import HYPERPARAMETERS
from tests import look_alikes
from tests.local_sagemaker.harness import Server
from tests.projects.conftest import Trained, by_hand, plan_of, ranges, shipped

DOGS = shipped("dogs")


@pytest.mark.slow
def test_training_runs_on_a_laptop_without_sagemaker(images_of: Callable[[str], Path], tmp_path: Path) -> None:
    ended = by_hand(images_of("dogs"), tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "model/model.json").is_file()


@pytest.mark.slow
def test_every_epoch_says_training_loss_validation_loss_and_accuracy(
    images_of: Callable[[str], Path], tmp_path: Path
) -> None:
    lines = by_hand(images_of("dogs"), tmp_path, optimizer="sgd").stdout.splitlines()
    epochs = [line for line in lines if line.startswith("epoch=")]
    assert [line.split()[0] for line in epochs] == ["epoch=1/2", "epoch=2/2"]
    assert all("train:loss=" in line and "validation:loss=" in line and "accuracy=" in line for line in epochs)


def test_all_133_breeds_of_the_archive_become_classes(tmp_path: Path, server: Server) -> None:
    for number in range(1, 134):
        for split in ("train", "validation", "test"):
            folder = tmp_path / split / f"{number:03d}.Breed_{number}"
            folder.mkdir(parents=True)
            seed = number * 3 + len(split)
            (folder / "1.jpg").write_bytes(look_alikes.jpeg((number, 255 - number, 90), seed, (18, 18)))
    synced = sync_dataset(plan_of(replace(DOGS, name="breeds", source=str(tmp_path))), server.s3)
    assert len(synced.version.classes) == 133


@pytest.mark.slow
def test_a_second_sync_copies_nothing(dogs: Trained) -> None:
    """As `aws s3 sync` did it."""
    assert dogs.synced.uploaded > 0
    assert sync_dataset(dogs.plan, dogs.server.s3).uploaded == 0


def test_rate_batch_epochs_and_optimizer_are_searched_together() -> None:
    asked = ranges(DOGS)
    assert float(asked["lr"]["MinValue"]) <= 0.0001 < 0.01 <= float(asked["lr"]["MaxValue"])
    assert {"16", "32", "64"} <= set(asked["batch-size"]["Values"])
    assert {"adam", "sgd"} <= set(asked["optimizer"]["Values"])
    assert int(asked["epochs"]["MinValue"]) <= 5 <= int(asked["epochs"]["MaxValue"])


def test_the_projects_own_choices_are_a_valid_recipe() -> None:
    choices = {"batch-size": [16, 32, 64], "epochs": [5, 10, 20], "optimizer": ["adam", "sgd"]}
    searched = {name: {"type": "categorical", "values": values} for name, values in choices.items()}
    searched["lr"] = {"type": "continuous", "min": 0.0001, "max": 0.01, "scaling": "Logarithmic"}  # type: ignore[dict-item]
    recipe = read_recipe(
        {"name": "x", "source": "/x", "hyperparameters": {}, "tuning": {"max_jobs": 10, "ranges": searched}}, "test"
    )
    assert ranges(recipe)["epochs"]["Values"] == ["5", "10", "20"]
    for chosen in itertools.product(*choices.values()):
        assert all(HYPERPARAMETERS[name].accepts(value) for name, value in zip(choices, chosen, strict=True))


def cut(path: Path) -> None:
    body = path.read_bytes()
    path.write_bytes(body[: len(body) // 2])


def test_a_truncated_image_is_kept_out_with_its_reason(
    images_of: Callable[[str], Path], server: Server, tmp_path: Path
) -> None:
    shutil.copytree(images_of("dogs"), tmp_path / "dogs")
    bad = min((tmp_path / "dogs/train/001.Affenpinscher").iterdir())
    cut(bad)
    plan = plan_of(replace(DOGS, name="truncated", source=str(tmp_path / "dogs")))
    version = sync_dataset(plan, server.s3).version
    (kept_out,) = version.quarantined
    assert (kept_out.file.path.name, kept_out.code) == (bad.name, "TRUNCATED")
    named = [image.file.path.name for image in version.images]
    assert bad.name not in named


@pytest.mark.slow
def test_a_truncated_image_that_reaches_a_training_ends_it_by_name(
    images_of: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(images_of("dogs"), tmp_path / "dogs")
    bad = min((tmp_path / "dogs/train/001.Affenpinscher").iterdir())
    cut(bad)
    ended = by_hand(tmp_path / "dogs", tmp_path)
    assert ended.returncode == 1
    assert bad.name in (tmp_path / "failure").read_text()


@pytest.mark.slow
def test_the_endpoint_answers_with_number_and_name_of_the_breed(
    dogs: Trained, endpoint: Callable[[Trained], Callable[..., bytes]]
) -> None:
    """The project answered {"predicted_label": "069", "class_name": "French_bulldog"}; the folder's name holds both."""
    answer = json.loads(endpoint(dogs)(dogs.image("test", "020.Belgian_malinois"), "image/jpeg"))
    number, _, name = answer["label"].partition(".")
    assert (number, name) == ("020", "Belgian_malinois")


@pytest.mark.slow
def test_system_metrics_of_the_job_are_recorded_while_it_runs(dogs: Trained) -> None:
    """CPU, memory and I/O of node algo-1, as the project's table shows them."""
    place = dogs.job["ProfilerConfig"]["S3OutputPath"].removeprefix("s3://")
    bucket, _, folder = f"{place}/{dogs.plan.training_job}/profiler-output/system/".partition("/")
    listed = dogs.server.s3.list_objects_v2(Bucket=bucket, Prefix=folder)["Contents"]
    lines = [
        json.loads(line)
        for entry in listed
        for line in dogs.server.s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read().splitlines()
    ]
    assert {line["NodeId"] for line in lines} == {"algo-1"}
    assert {"cpu", "memory", "i/o"} <= {line["Type"] for line in lines}
