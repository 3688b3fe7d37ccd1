"""Which of SageMaker's jobs this is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TUNED_JOB = re.compile(r"(.+)-\d{3}-[0-9a-z]{8}")  # how SageMaker names the jobs of a tuning job


def tuning_job(environment: Mapping[str, str]) -> str:
    """The name of the search that this training is a trial of; empty where it is none."""
    tuned = TUNED_JOB.fullmatch(environment.get("TRAINING_JOB_NAME", ""))
    return tuned[1] if tuned else ""
