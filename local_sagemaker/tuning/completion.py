"""When a tuning job has learned enough: its completion criteria. Pure.

SageMaker calls an improvement of the best objective by less than 1 % none (BestObjectiveNotImproving, and convergence
as TuningJobCompletionDetails tells it). It does not say how it detects convergence; here, a search has converged when
max(10, 5 x the number of tuned hyperparameters) jobs in a row did not improve it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

_SIGNIFICANT = 0.01
_MIN_WINDOW, _JOBS_PER_TUNABLE = 10, 5


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the jobs that ended with an objective, in the order in which they ended, say about the search."""

    best: float | None
    not_improving: int
    """How many ended since the last one that improved the best objective by 1 % or more."""
    converged_at: float | None
    """When the job ended that was one too many without improvement."""

    @classmethod
    def of(cls, ended: Sequence[tuple[float, float]], *, maximize: bool, num_tunables: int) -> Progress:
        """`ended` holds (time, objective)."""
        window = max(_MIN_WINDOW, _JOBS_PER_TUNABLE * num_tunables)
        best: float | None = None
        milestone: float | None = None  # the objective at the last real improvement: small steps add up against it
        not_improving, converged_at = 0, None
        for time, value in ended:
            if best is None or (value > best if maximize else value < best):
                best = value
            gain = 0.0 if milestone is None else (value - milestone if maximize else milestone - value)
            if milestone is None or (gain > 0 and gain >= _SIGNIFICANT * abs(milestone)):
                milestone, not_improving, converged_at = value, 0, None
            else:
                not_improving += 1
                if not_improving == window:
                    converged_at = time
        return cls(best, not_improving, converged_at)

    def details(self) -> dict[str, Any]:
        """TuningJobCompletionDetails. SageMaker keeps it for every tuning job, whatever criteria it has."""
        details: dict[str, Any] = {"NumberOfTrainingJobsObjectiveNotImproving": self.not_improving}
        return details | ({"ConvergenceDetectedTime": self.converged_at} if self.converged_at is not None else {})

    def suffices(self, criteria: dict[str, Any], *, maximize: bool) -> bool:
        """Whether one of TuningJobCompletionCriteria is met."""
        target = criteria.get("TargetObjectiveMetricValue")
        patience = criteria.get("BestObjectiveNotImproving", {}).get("MaxNumberOfTrainingJobsNotImproving")
        enabled = criteria.get("ConvergenceDetected", {}).get("CompleteOnConvergence") == "Enabled"
        if self.best is None:
            return False
        return (
            (target is not None and (self.best >= target if maximize else self.best <= target))
            or (patience is not None and self.not_improving >= patience)
            or (enabled and self.converged_at is not None)
        )
