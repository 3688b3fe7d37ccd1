"""Hyperparameters that do not go together. `ml/train.py` refuses them too, when each trial's job has been paid for.

`tests/contract/` holds the sizes against torchvision's networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from retraining.recipe.hyperparameters import ARCHITECTURES, Value
from retraining.recipe.refusal import RecipeError

DEFAULTS: Mapping[str, Value] = {
    "arch": "resnet18", "stem": "standard", "weights": "none", "trainable": "all", "hidden-units": 0, "dropout": 0.0,
    "image-size": 224, "start-size": 0, "augment": "none", "class-weights": "none", "sampler": "shuffle",
    "precision": "auto",
}  # fmt: skip
"""Of train.py, where a recipe says nothing."""
SMALLEST: Mapping[str, int] = {
    "alexnet": 63, "googlenet": 15, "inception_v3": 75, "maxvit_t": 224, "squeezenet1_0": 21, "squeezenet1_1": 17,
    **dict.fromkeys((arch for arch in ARCHITECTURES if arch.startswith(("convnext", "vgg"))), 32),
    **dict.fromkeys((arch for arch in ARCHITECTURES if arch.startswith("densenet")), 29),
    **dict.fromkeys((arch for arch in ARCHITECTURES if arch.startswith("vit")), 224),
}  # fmt: skip
"""Network → the smallest image-size that its layers leave anything of, where that is more than 8."""
ONLY_SIZE = tuple(arch for arch in ARCHITECTURES if arch.startswith(("vit", "maxvit")))
"""Networks that take images of their SMALLEST, and no others."""
RESNETS = frozenset(arch for arch in ARCHITECTURES if arch.startswith(("resnet", "resnext", "wide_resnet")))
OWN_STEMS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""Networks that `ml/network/resnet.py` builds."""


@dataclass(frozen=True)
class Rule:
    """Of some hyperparameters, in this order: when they do not go together, why, and the way out."""

    names: tuple[str, ...]
    broken_by: Callable[..., bool]
    says: str
    """Filled with the values, and with the network's `smallest` image."""
    way_out: str


RULES = (
    Rule(
        ("start-size", "image-size"),
        lambda start, size: start > size,
        "the images cannot begin larger than they become",
        "Lower start-size, or raise image-size.",
    ),
    Rule(
        ("augment", "image-size"),
        lambda augment, size: "rand" in augment.split("+") and size < 16,
        "rand needs images of 16 pixels at least",
        "Raise image-size, or take another augment.",
    ),
    Rule(
        ("class-weights", "sampler"),
        lambda weights, sampler: weights == sampler == "balanced",
        "both balanced would count rare classes twice",
        "Keep one of them.",
    ),
    Rule(
        ("arch", "stem"),
        lambda arch, stem: stem == "small" and arch not in OWN_STEMS,
        "{arch} has only its own stem",
        f"Take one of {', '.join(OWN_STEMS)}, or stem: standard.",
    ),
    Rule(
        ("arch", "trainable"),
        lambda arch, part: part.startswith("layer") and arch not in RESNETS,
        "{arch} has no layers of these names; they are a ResNet's",
        "Set trainable to head or all.",
    ),
    Rule(
        ("weights", "trainable"),
        lambda weights, part: weights == "none" and part != "all",
        "without weights to start from, layers would be frozen at random values",
        "Set weights to imagenet or channel, or trainable to all.",
    ),
    Rule(
        ("arch", "hidden-units", "dropout"),
        lambda arch, units, share: arch.startswith("squeezenet") and bool(units or share),
        "{arch} does not end in a linear layer, before which these could stand",
        "Leave both at 0.",
    ),
    Rule(
        ("arch", "image-size"),
        lambda arch, size: size < SMALLEST.get(arch, 8),
        "nothing is left of an image of {image-size} pixels in {arch}, which needs {smallest}",
        "Raise image-size.",
    ),
    Rule(
        ("arch", "image-size"),
        lambda arch, size: arch in ONLY_SIZE and size != SMALLEST[arch],
        "{arch} takes images of {smallest} pixels only",
        "Set image-size to that.",
    ),
    Rule(
        ("arch", "start-size"),
        lambda arch, start: bool(start) and (arch in ONLY_SIZE or start < SMALLEST.get(arch, 8)),
        "the network takes no image as small",
        "Leave start-size at 0.",
    ),
)
ON_CPU = Rule(
    ("precision",),
    lambda precision: precision == "fp16",
    "fp16 needs a GPU, and training.instance_type has none",
    "Take bf16, fp32 or auto, or an ml.g machine.",
)


def check_combinations(possible: Mapping[str, Iterable[Value]], gpu: bool) -> None:
    """RecipeError where some of the values that a trial may be given cannot be trained with.

    `possible`: name → its one value, or those that a range is searched between; `gpu`: whether the machine has one.
    """
    for rule in RULES if gpu else (*RULES, ON_CPU):
        for values in product(*(possible.get(name, (DEFAULTS[name],)) for name in rule.names)):
            if rule.broken_by(*values):
                given = dict(zip(rule.names, values, strict=True))
                said = rule.says.format(**given, smallest=SMALLEST.get(str(given.get("arch"))))
                raise RecipeError("hyperparameters", given, said, rule.way_out)
