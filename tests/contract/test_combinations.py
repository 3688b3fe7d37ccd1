"""Hyperparameters that a recipe refuses together are those that the training refuses, and no others."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from retraining.recipe import RecipeError, read_recipe
from retraining.recipe.combinations import DEFAULTS, ONLY_SIZE, OWN_STEMS, RESNETS, SMALLEST

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ASK = """
import json, sys
sys.path.insert(0, "ml")
import torch
from network.model import TRAINABLE
from network.resnet import LAYERS
import argparse
from training import flags
from torchvision import models

def works(network, side):
    try:
        with torch.no_grad():
            network(torch.zeros(2, 3, side, side, device="meta"))
    except (AssertionError, RuntimeError):
        return False
    return True

def sizes(arch, sides):
    with torch.device("meta"):
        extra = {"aux_logits": False, "init_weights": False} if arch in ("googlenet", "inception_v3") else {}
        network = models.get_model(arch, weights=None, **extra).eval()
        named = all(hasattr(network, part) for part in ("layer3", "layer4"))
    return [works(network, side) for side in sides], named

asked = json.loads(sys.argv[1])
parser = argparse.ArgumentParser()
for add in (flags.add_network, flags.add_images, flags.add_optimisation, flags.add_computation):
    add(parser.add_argument)
known = parser.parse_args([])
print(json.dumps({
    "defaults": {name: getattr(known, name.replace("-", "_")) for name in asked["defaults"]},
    "own_stems": list(LAYERS),
    "networks": {arch: sizes(arch, sides) for arch, sides in asked["sizes"].items()},
}))
"""
SIZED = ("alexnet", "convnext_tiny", "densenet121", "googlenet", "inception_v3", "maxvit_t", "squeezenet1_0",
         "squeezenet1_1", "vgg11", "vit_b_32")  # fmt: skip
"""Each that needs more, and the smallest of each family that does."""
OTHERS = ("resnet18", "resnext50_32x4d", "wide_resnet50_2", "mobilenet_v2", "mnasnet0_5", "swin_t", "efficientnet_b0")
"""Some of those that take images of 8 pixels."""


@pytest.fixture(scope="module")
def networks() -> Any:
    sizes = {arch: [SMALLEST[arch] - 1, SMALLEST[arch], 2 * SMALLEST[arch]] for arch in SIZED}
    sizes |= {arch: [8] for arch in OTHERS}
    asked = json.dumps({"defaults": list(DEFAULTS), "sizes": sizes})
    python = ROOT / ".venv/ml/bin/python"
    done = subprocess.run([python, "-c", ASK, asked], cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    return json.loads(done.stdout)


def test_defaults_are_those_of_the_training(networks: Any) -> None:
    assert networks["defaults"] == dict(DEFAULTS)


def test_the_smallest_image_is_the_networks(networks: Any) -> None:
    for arch in SIZED:
        assert networks["networks"][arch][0] == [arch == "maxvit_t", True, arch not in ONLY_SIZE], arch
    for arch in OTHERS:
        assert networks["networks"][arch][0] == [True], arch


def test_stems_and_layers_are_the_networks(networks: Any) -> None:
    assert tuple(networks["own_stems"]) == OWN_STEMS
    assert {arch for arch, (_, named) in networks["networks"].items() if named} == RESNETS & set(networks["networks"])


@pytest.mark.parametrize(
    ("fixed", "ranges", "told"),
    [
        ({"start-size": 64, "image-size": 32}, {}, "cannot begin larger than they become"),
        ({"augment": "flip+rand", "image-size": 15}, {}, "rand needs images of 16 pixels"),
        ({"class-weights": "balanced", "sampler": "balanced"}, {}, "count rare classes twice"),
        ({"arch": "vgg11", "stem": "small"}, {}, "vgg11 has only its own stem"),
        ({"arch": "swin_t", "trainable": "layer4", "weights": "imagenet"}, {}, "swin_t has no layers of these names"),
        ({"trainable": "head"}, {}, "frozen at random values"),
        ({"arch": "squeezenet1_0", "dropout": 0.5}, {}, "does not end in a linear layer"),
        ({"arch": "alexnet", "image-size": 32}, {}, "of 32 pixels in alexnet, which needs 63. Raise image-size"),
        ({"arch": "vit_b_16", "image-size": 256}, {}, "vit_b_16 takes images of 224 pixels only"),
        ({"arch": "vit_b_16", "start-size": 112}, {}, "takes no image as small"),
        ({"precision": "fp16"}, {}, "fp16 needs a GPU"),
        (
            {"stem": "small"},
            {"arch": {"type": "categorical", "values": ["resnet18", "vgg11"]}},
            "vgg11 has only its own",
        ),
        ({"image-size": 64}, {"start-size": {"type": "integer", "min": 8, "max": 65}}, "cannot begin larger"),
    ],
)
def test_what_cannot_be_trained_makes_no_dag(fixed: dict[str, Any], ranges: dict[str, Any], told: str) -> None:
    lr = {"type": "continuous", "min": 0.001, "max": 0.1}
    tuning = {"ranges": {"lr": lr} | ranges}
    recipe = {
        "name": "shapes",
        "source": "bundled://digits",
        "hyperparameters": {"epochs": 2} | fixed,
        "tuning": tuning,
    }
    with pytest.raises(RecipeError, match=f"hyperparameters = .*{told}"):
        read_recipe(recipe, where="test")
