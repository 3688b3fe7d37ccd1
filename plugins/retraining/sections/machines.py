"""Where jobs and endpoints run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from retraining.sections.refusal import require


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where and for how long one training job may run; the time limit is the only hard ceiling on its price."""

    instance_type: str = "ml.m5.xlarge"
    volume_size_gb: int = 30
    max_runtime_seconds: int = 3600
    spot: bool = False
    instance_count: int = 1
    distribution: Literal["none", "torchrun"] = "none"
    """torchrun: one process for each GPU of each instance, which train one model together."""
    keep_alive_seconds: int = 0
    """How long the final training's machines stay, paid for, so that the next run's start at once. 0: not at all."""

    def __post_init__(self) -> None:
        require_instance_type(self.instance_type)
        require(1 <= self.instance_count <= 64, "instance_count", self.instance_count, "must be 1 to 64")
        require(
            self.instance_count == 1 or self.distribution == "torchrun",
            "instance_count",
            self.instance_count,
            "several instances without a distribution would each train a model of their own",
            "Add distribution: torchrun.",
        )
        require(
            0 <= self.keep_alive_seconds <= 21_600, "keep_alive_seconds", self.keep_alive_seconds, "must be 0 to 21600"
        )
        require(
            not (self.spot and self.keep_alive_seconds),
            "keep_alive_seconds",
            self.keep_alive_seconds,
            "SageMaker does not keep spot machines",
            "Set spot: false, or leave it out.",
        )
        require(1 <= self.volume_size_gb <= 16384, "volume_size_gb", self.volume_size_gb, "must be 1 to 16384 GB")
        require(
            60 <= self.max_runtime_seconds <= 432_000,
            "max_runtime_seconds",
            self.max_runtime_seconds,
            "must be 60 seconds to 5 days (432000)",
        )


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What answers requests, and also what scores the test set."""

    instance_type: str = "ml.m5.large"
    instance_count: int = 1

    def __post_init__(self) -> None:
        require_instance_type(self.instance_type)
        require(1 <= self.instance_count <= 100, "instance_count", self.instance_count, "must be 1 to 100")


def require_instance_type(value: str) -> None:
    require(
        re.fullmatch(r"ml\.[a-z0-9-]+\.[a-z0-9]+", value) is not None,
        "instance_type",
        value,
        "must be a SageMaker instance type such as ml.m5.xlarge or ml.g5.xlarge",
    )
