"""Who looks at the images of a source: the Airflow worker, or a job of several machines; and how trainings get them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from retraining.recipe.machines import InstanceType
from retraining.recipe.rules import SECTION, BareOff, Between


@dataclass(frozen=True, kw_only=True)
class Sync:
    """Verifying is the part of a sync that grows with the data; whoever does it, the version is the same."""

    __pydantic_config__ = SECTION

    where: Literal["worker", "auto", "processing"] = "worker"
    """processing: a SageMaker Processing job verifies what is new; auto: where that is `job_from` images or more."""
    job_from: Annotated[int, Between(1, 10_000_000)] = 20_000
    instances: Annotated[int, Between(1, 20)] = 1
    instance_type: InstanceType = "ml.m5.xlarge"
    max_runtime_seconds: Annotated[int, Between(60, 432_000, " (5 days)")] = 3600
    shards: Annotated[Literal["off", "File", "FastFile"], BareOff("off")] = "off"
    """Tar shards beside the single images, and the input mode in which trainings read them."""
    min_share: Annotated[float, Between(0, 1)] = 0.5
    """Of the images of the champion's data, in all and of each class, that a source must still have."""

    @property
    def may_have_a_job(self) -> bool:
        return self.where != "worker"
