"""The hyperparameters `ml/train.py` understands, and which values it accepts.

The training script is the judge; this table lets a typo or an impossible value fail before anything is paid for.
`tests/contract/` holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Value = str | int | float


@dataclass(frozen=True, kw_only=True)
class Hyperparameter:
    """One flag of the training script: how it reads its value, and the rule in words and as a check."""

    read: type[int] | type[float] | type[str]
    rule: str
    accepts: Callable[[Value], bool]


def _number(read: type[int] | type[float], lowest: float, highest: float) -> Hyperparameter:
    def accepts(value: Value) -> bool:
        whole = isinstance(value, int) and not isinstance(value, bool)
        number = whole or (read is float and isinstance(value, float) and math.isfinite(value))
        return number and lowest <= float(value) <= highest

    kind = "a whole number" if read is int else "a number"
    return Hyperparameter(read=read, rule=f"must be {kind} from {lowest:g} to {highest:g}", accepts=accepts)


def _choice(*choices: str) -> Hyperparameter:
    return Hyperparameter(read=str, rule=f"must be one of {', '.join(choices)}", accepts=lambda value: value in choices)


HYPERPARAMETERS: dict[str, Hyperparameter] = {
    "arch": _choice("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    "stem": _choice("standard", "small"),
    "weights": _choice("none", "channel", "imagenet"),
    "trainable": _choice("all", "layer3+", "layer4", "head"),
    "image-size": _number(int, 8, 1024),
    "augment": _choice("none", "shift", "flip"),
    "epochs": _number(int, 1, 1000),
    "batch-size": _number(int, 2, 4096),
    "optimizer": _choice("sgd", "adam"),
    "lr": _number(float, 1e-8, 10),
    "momentum": _number(float, 0, 0.999),
    "weight-decay": _number(float, 0, 1),
    "seed": _number(int, 0, 2**31 - 1),
}


def as_text(value: Value) -> str:
    """SageMaker transports hyperparameters as strings; the shortest text that reads back as the same number."""
    return value if isinstance(value, str) else repr(value)
