"""The project "CIFAR-100 with ResNet-34": blocks 1 to 3 frozen, one more layer, images as base64 in JSON.

Its faults, gone: 32 px images without normalisation or augmentation as the only way; accuracy validated on the test
set; the curves of epochs lost between two saved steps.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import look_alikes
from tests.projects.conftest import Trained, ranges, shipped, training_request, tuning_request

PROPER, AS_IT_WAS = shipped("cifar100"), shipped("cifar100_frozen")


@pytest.mark.slow
def test_the_python_archives_test_set_stays_the_test_set(frozen: Trained) -> None:
    version = frozen.synced.version
    assert version.classes == list(look_alikes.FINE)
    assert sum(version.counts["test"].values()) == 18
    assert sum(version.counts["train"].values()) + sum(version.counts["validation"].values()) == 60
    assert all(image.file.split == "test" for image in version.images if image.split == "test")


@pytest.mark.slow
def test_blocks_1_to_3_stay_as_they_were_and_block_4_learns(frozen: Trained) -> None:
    program = """
import json, sys, torch
from network import weights
before, after = torch.load(sys.argv[1], weights_only=True), weights.read(sys.argv[2])
changed = {name.split(".")[0] for name in after if name in before and not torch.equal(before[name], after[name])}
print(json.dumps({"changed": sorted(changed), "head": {n: list(w.shape) for n, w in after.items() if n[:3] == "fc."}}))
"""
    command = [str(look_alikes.ML_PYTHON), "-W", "ignore", "-c", program, str(frozen.weights)]
    answer = subprocess.run(
        [*command, str(frozen.folder / "model.safetensors")],
        env={"PYTHONPATH": str(look_alikes.ROOT / "ml")},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(answer.stdout)
    assert found["changed"] == ["layer4"]
    assert found["head"]["fc.hidden.weight"] == [256, 512]
    assert found["head"]["fc.logits.weight"] == [3, 256]


def test_the_best_hyperparameters_the_project_found_lie_in_the_ranges() -> None:
    asked = ranges(AS_IT_WAS)
    assert float(asked["lr"]["MinValue"]) <= 0.017483127170473314 <= float(asked["lr"]["MaxValue"])
    assert "128" in asked["batch-size"]["Values"]
    assert int(asked["epochs"]["MinValue"]) <= 70 <= int(asked["epochs"]["MaxValue"])
    limits = tuning_request(AS_IT_WAS)["HyperParameterTuningJobConfig"]["ResourceLimits"]
    assert limits["MaxNumberOfTrainingJobs"] == 10


def test_the_default_recipe_does_what_the_project_wished_it_had_done() -> None:
    given = PROPER.hyperparameters
    assert (given["image-size"], given["augment"], given["schedule"]) == (224, "crop+flip", "onecycle")
    assert (given["trainable"], given["weights"]) == ("all", "imagenet")


@pytest.mark.slow
def test_images_are_normalised_as_imagenets_were(frozen: Trained) -> None:
    assert frozen.description["mean"] == [0.485, 0.456, 0.406]
    assert frozen.description["std"] == [0.229, 0.224, 0.225]


def test_a_gpu_instance_gets_the_gpu_image() -> None:
    assert AS_IT_WAS.training.instance_type == "ml.g5.xlarge"
    assert "-gpu-" in training_request(AS_IT_WAS)["AlgorithmSpecification"]["TrainingImage"]


@pytest.mark.slow
def test_every_epoch_tells_loss_and_accuracy_of_training_and_validation(frozen: Trained) -> None:
    lines = [line for line in frozen.log() if line.startswith("epoch=")]
    assert len(lines) == 3
    for name in ("train:loss", "train:accuracy", "validation:loss", "validation:accuracy"):
        assert all(f" {name}=" in line for line in lines)
        assert name in frozen.final_metrics


@pytest.mark.slow
def test_the_curve_of_epochs_is_whole_whatever_the_save_interval(frozen: Trained) -> None:
    """The project saved every 50th step, and of 70 epochs two."""
    assert AS_IT_WAS.debugger.save_interval == 50
    history = json.loads(frozen.output()["history.json"])
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]


@pytest.mark.slow
def test_the_endpoint_takes_base64_in_json(
    frozen: Trained, endpoint: Callable[[Trained], Callable[..., bytes]], tmp_path: Path
) -> None:
    ask = endpoint(frozen)
    picture = frozen.image("test", "apple")  # a PNG, as the project sent it
    payload = {"image": base64.b64encode(picture).decode("utf-8")}
    answer = json.loads(ask(json.dumps(payload).encode(), "application/json"))
    assert answer["label"] in look_alikes.FINE
    assert answer == json.loads(ask(picture, "image/png"))
