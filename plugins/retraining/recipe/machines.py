"""Where jobs and endpoints run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from retraining.recipe.refusal import require
from retraining.recipe.rules import SECTION, Between, Matching

InstanceType = Annotated[
    str,
    Matching(r"ml\.[a-z0-9-]+\.[a-z0-9]+", "must be a SageMaker instance type such as ml.m5.xlarge or ml.g5.xlarge"),
]


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where and for how long one training job may run; the time limit is the only hard ceiling on its price."""

    __pydantic_config__ = SECTION

    instance_type: InstanceType = "ml.m5.xlarge"
    volume_size_gb: Annotated[int, Between(1, 16384, " GB")] = 30
    max_runtime_seconds: Annotated[int, Between(60, 432_000, " (5 days)")] = 3600
    spot: bool = False
    instance_count: Annotated[int, Between(1, 64)] = 1
    """Of each trial as of the final training: what a search finds on one machine need not hold on several."""
    distribution: Literal["none", "torchrun"] = "none"
    """torchrun: one process for each GPU of each instance, which train one model together."""
    keep_alive_seconds: Annotated[int, Between(0, 21_600)] = 0
    """How long the final training's machines stay, paid for, so that the next run's start at once. 0: not at all."""

    def __post_init__(self) -> None:
        require(
            self.instance_count == 1 or self.distribution == "torchrun",
            "instance_count",
            self.instance_count,
            "several instances without a distribution would each train a model of their own",
            "Add distribution: torchrun.",
        )
        require(
            not (self.spot and self.keep_alive_seconds),
            "keep_alive_seconds",
            self.keep_alive_seconds,
            "SageMaker does not keep spot machines",
            "Set spot: false, or leave it out.",
        )


@dataclass(frozen=True, kw_only=True)
class Autoscaling:
    """How many instances Application Auto Scaling may give an endpoint, and by what."""

    __pydantic_config__ = SECTION

    min: Annotated[int, Between(1, 100)] = 1
    max: Annotated[int, Between(1, 100)]
    invocations_per_instance: Annotated[int, Between(1, 1_000_000)]
    """Requests within a minute: above it there are more instances, well below it fewer."""

    def __post_init__(self) -> None:
        require(self.min <= self.max, "max", self.max, f"must be at least min, {self.min}")


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What answers requests."""

    __pydantic_config__ = SECTION

    instance_type: InstanceType = "ml.m5.large"
    instance_count: Annotated[int, Between(1, 100)] = 1
    ttl_hours: Annotated[int, Between(1, 8760, " hours")] | None = None
    """An endpoint that had neither a request nor a successful run for so long is deleted, a day after telling of it."""
    autoscaling: Autoscaling | None = None

    def __post_init__(self) -> None:
        bounds = self.autoscaling
        require(
            bounds is None or bounds.min <= self.instance_count <= bounds.max,
            "instance_count",
            self.instance_count,
            f"a new endpoint begins with it, within autoscaling.min and max ({bounds and (bounds.min, bounds.max)})",
        )
        require(
            bounds is None or not self.instance_type.startswith("ml.t2."),
            "instance_type",
            self.instance_type,
            "SageMaker does not scale endpoints of burstable machines",
            "Take another, such as ml.m5.large, or leave out autoscaling.",
        )

    @property
    def fewest_instances(self) -> int:
        """That an endpoint may have when it is updated."""
        return self.autoscaling.min if self.autoscaling else self.instance_count


def has_local_storage(instance_type: str) -> bool:
    """Whether its disks are part of the machine: those with a d in their name, and newer ones with GPUs or Trainium.

    https://docs.aws.amazon.com/sagemaker/latest/dg/host-instance-storage.html
    """
    return re.match(r"ml\.([a-z]+\d+[a-z]*d[a-z]*|g[56]\w*|gr6\w*|p[4-9]\w*|trn\d\w*)[.-]", instance_type) is not None


def has_gpu(instance_type: str) -> bool:
    """The first letter of the family tells: ml.g5 and ml.p4d have NVIDIA GPUs."""
    return re.match(r"ml\.[gp]\d", instance_type) is not None
