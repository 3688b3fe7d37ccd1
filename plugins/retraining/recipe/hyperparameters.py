"""The hyperparameters `ml/train.py` understands, and which values it accepts.

The training script is the judge; this table lets a typo or an impossible value fail before anything is paid for.
`tests/contract/` holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Value = str | int | float | bool

HYPERPARAMETER_LIMIT = 2500
"""Characters of one hyperparameter's value: SageMaker's limit."""


@dataclass(frozen=True, kw_only=True)
class Hyperparameter:
    """One flag of the training script: how it reads its value, and the rule in words, as a check and for editors."""

    read: type[int] | type[float] | type[str] | type[bool]
    rule: str
    accepts: Callable[[Value], bool]
    schema: dict[str, Any]
    """What JSON Schema can say of it."""


def _number(read: type[int] | type[float], lowest: float, highest: float) -> Hyperparameter:
    def accepts(value: Value) -> bool:
        whole = isinstance(value, int) and not isinstance(value, bool)
        number = whole or (read is float and isinstance(value, float) and math.isfinite(value))
        return number and lowest <= float(value) <= highest

    kind = "a whole number" if read is int else "a number"
    rule = f"must be {kind} from {lowest:.15g} to {highest:.15g}"
    schema: dict[str, Any] = {"type": "integer" if read is int else "number", "minimum": lowest, "maximum": highest}
    return Hyperparameter(read=read, rule=rule, accepts=accepts, schema=schema)


def _choice(*choices: str) -> Hyperparameter:
    rule = f"must be one of {', '.join(choices)}"
    return Hyperparameter(read=str, rule=rule, accepts=lambda value: value in choices, schema={"enum": list(choices)})


def _boolean() -> Hyperparameter:
    return Hyperparameter(
        read=bool,
        rule="must be true or false",
        accepts=lambda value: isinstance(value, bool),
        schema={"type": "boolean"},
    )


def _augmentation() -> Hyperparameter:
    kinds = {"shift", "affine", "flip", "crop", "rand"}

    def accepts(value: Value) -> bool:
        return value == "none" or (isinstance(value, str) and set(value.split("+")) <= kinds)

    rule = f"must be none, or some of {', '.join(sorted(kinds))} joined by +"
    one = f"(?:{'|'.join(sorted(kinds))})"
    schema = {"type": "string", "pattern": rf"^(?:none|{one}(?:\+{one})*)$"}
    return Hyperparameter(read=str, rule=rule, accepts=accepts, schema=schema)


_TORCHVISION = """
    alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169
    densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5
    efficientnet_b6 efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3
    maxvit_t mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small
    regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf
    regnet_y_128gf regnet_y_16gf regnet_y_1_6gf regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf
    regnet_y_8gf resnet101 resnet152 resnet18 resnet34 resnet50 resnext101_32x8d resnext101_64x4d
    resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0
    squeezenet1_1 swin_b swin_s swin_t swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16
    vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32 vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2
"""
ARCHITECTURES = tuple(_TORCHVISION.split())
"""Every classification network of torchvision 0.29; tests/ml holds the list against torchvision itself."""

HYPERPARAMETERS: dict[str, Hyperparameter] = {
    "arch": Hyperparameter(
        read=str,
        rule="must be a classification network of torchvision, such as resnet18",
        accepts=lambda value: value in ARCHITECTURES,
        schema={"enum": list(ARCHITECTURES)},
    ),
    "stem": _choice("standard", "small"),
    "weights": _choice("none", "channel", "imagenet"),
    "trainable": _choice("all", "layer3+", "layer4", "head"),
    "head": _choice("softmax", "binary"),
    "hidden-units": _number(int, 0, 8192),
    "dropout": _number(float, 0, 0.95),
    "image-size": _number(int, 8, 1024),
    "start-size": _number(int, 0, 1024),
    "augment": _augmentation(),
    "mixup": _number(float, 0, 10),
    "sampler": _choice("shuffle", "balanced"),
    "epochs": _number(int, 1, 1000),
    "batch-size": _number(int, 2, 4096),
    "optimizer": _choice("adam", "adamw", "sgd"),
    "lr": _number(float, 1e-8, 10),
    "schedule": _choice("onecycle", "cosine", "step", "constant"),
    "warm-up": _number(float, 0, 0.9),
    "momentum": _number(float, 0, 0.999),
    "weight-decay": _number(float, 0, 1),
    "decay-all": _boolean(),
    "label-smoothing": _number(float, 0, 0.5),
    "class-weights": _choice("none", "balanced"),
    "clip-norm": _number(float, 0, 1e6),
    "ema": _number(float, 0, 0.99999),
    "objective": _choice("validation:accuracy", "validation:macro_f1", "validation:f1", "validation:loss"),
    "patience": _number(int, 0, 1000),
    "min-delta": _number(float, 0, 1),
    "precision": _choice("auto", "fp32", "bf16", "fp16"),
    "deterministic": _boolean(),
    "check-labels": _boolean(),
    "compile": _boolean(),
    "seed": _number(int, 0, 2**31 - 1),
    "serving": _choice("auto", "torch", "openvino", "int8"),
}


def as_text(value: Value) -> str:
    """SageMaker transports hyperparameters as strings; the shortest text that reads back as the same number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
