"""labels.json, which a training leaves: on squares of three colours of which two are misnamed."""

import json
import random

import pytest
from PIL import Image

from tests.ml.conftest import COLOURS

COUNTS = {"train": 30, "validation": 6}


@pytest.fixture
def misnamed(tmp_path):
    """Noisy squares, and in each channel a red one in the folder of the blue ones."""
    root, noise = tmp_path / "misnamed", random.Random(3)

    def square(folder, name, colour):
        folder.mkdir(parents=True, exist_ok=True)
        pixels = bytes(min(255, value + noise.randrange(25)) for _ in range(256) for value in colour)
        Image.frombytes("RGB", (16, 16), pixels).save(folder / name)

    for channel, count in COUNTS.items():
        for label, colour in COLOURS.items():
            for number in range(count):
                square(root / channel / label, f"{number}.png", colour)
        square(root / channel / "blue", "odd.png", COLOURS["red"])
    return root


@pytest.fixture
def job(job_class, tmp_path, misnamed, environment):
    return job_class(tmp_path, misnamed, environment)


def run(job, **hyperparameters):
    status, stdout, stderr = job.run(**{"epochs": 3, "augment": "shift"} | hyperparameters)
    assert status == 0, stderr
    return stdout


def told(job):
    return json.loads((job.output_dir / "data" / "labels.json").read_text())


def test_misnamed_images_are_told(job):
    stdout = run(job)
    found = told(job)
    doubted = {(each["image"], each["split"]): each for each in found["suspects"]}
    assert set(doubted) == {("blue/odd.png", "train"), ("blue/odd.png", "validation")}
    assert {(each["class"], each["likely"]) for each in doubted.values()} == {("blue", "red")}
    assert found["count"] == 2 and found["images"] == 3 * sum(COUNTS.values()) + 2 and found["unjudged"] == []
    assert f"the labels of 2 of {found['images']} images are doubted" in stdout


def test_the_best_epoch_stays_the_last_line(job):
    assert run(job).splitlines()[-1].startswith("best epoch=")


def test_a_frozen_network_looks_too(job, pretrained):
    """By the vectors that it trained on."""
    stdout = run(job, trainable="head", augment="none", weights="channel", **{"pretrained-dir": pretrained})
    assert "its view of each image is computed once" in stdout
    assert told(job)["images"] == 3 * sum(COUNTS.values()) + 2


def test_trials_do_not_look(job):
    job.environment["TRAINING_JOB_NAME"] = "search-001-0a1b2c3d"
    run(job)
    assert not (job.output_dir / "data" / "labels.json").exists()


def test_it_can_be_switched_off(job):
    run(job, **{"check-labels": "false"})
    assert not (job.output_dir / "data" / "labels.json").exists()


def test_a_failed_look_fails_no_training(job):
    (job.output_dir / "data" / "labels.json").mkdir(parents=True)
    assert "the labels were not checked: IsADirectoryError" in run(job)
    assert (job.model_dir / "model.json").exists()
