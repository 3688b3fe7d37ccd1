"""The training jobs of a tuning job, as it sees them: which trial each is, what it reports, and how that is told."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from local_sagemaker.jobs import training_job
from local_sagemaker.jobs.metrics import as_float32
from local_sagemaker.jobs.status import TERMINAL
from local_sagemaker.platform import Platform
from local_sagemaker.state.store import Record, Selection, Store
from local_sagemaker.tuning.definition import Definition
from local_sagemaker.tuning.plan import Plan

#: DescribeHyperParameterTuningJob's counters.
_STATUSES = ("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped")
_OBJECTIVES = ("Succeeded", "Pending", "Failed")


@dataclasses.dataclass(frozen=True)
class Child:
    record: Record
    number: int
    """From 1; the NNN of its name."""
    definition: Definition
    index: int
    """How many trials of its definition came before it."""

    @property
    def ended(self) -> bool:
        return self.record.status in TERMINAL

    @property
    def tuned(self) -> dict[str, str]:
        return dict(self.record.internal.get("tuned", {}))

    @property
    def end_time(self) -> float:
        return float(self.record.describe.get("TrainingEndTime", self.record.modified))

    @functools.cached_property
    def series(self) -> list[tuple[float, float]]:
        """(time, objective) as it printed them, without what is not a number."""
        points = self.record.internal.get("metrics", {}).get(self.definition.metric, [])
        return [(time, value) for time, value in points if math.isfinite(value)]

    @property
    def objective(self) -> float | None:
        """The last value it printed. None if that is not a number, or if the job failed."""
        points = self.record.internal.get("metrics", {}).get(self.definition.metric)
        if self.record.status == "Failed" or not points or not math.isfinite(points[-1][1]):
            return None
        return as_float32(points[-1][1])

    @property
    def objective_status(self) -> str:
        if not self.ended:
            return "Pending"
        return "Failed" if self.objective is None else "Succeeded"

    @property
    def counted_as(self) -> str:
        """Its place in TrainingJobStatusCounters. SageMaker would retry what failed by an internal error only."""
        if self.record.status != "Failed":
            return "InProgress" if self.record.status == "Stopping" else str(self.record.status)
        reason = str(self.record.describe.get("FailureReason", ""))
        return "RetryableError" if reason.startswith("InternalServerError") else "NonRetryableError"

    def summary(self) -> dict[str, Any]:
        """HyperParameterTrainingJobSummary."""
        members = (
            "TrainingJobName",
            "TrainingJobArn",
            "CreationTime",
            "TrainingStartTime",
            "TrainingEndTime",
            "TrainingJobStatus",
            "FailureReason",
        )
        result = {member: self.record.describe[member] for member in members if member in self.record.describe}
        result |= {"TunedHyperParameters": self.tuned, "ObjectiveStatus": self.objective_status}
        if self.definition.name:
            result["TrainingJobDefinitionName"] = self.definition.name
        if self.objective_status == "Succeeded":
            result["FinalHyperParameterTuningJobObjectiveMetric"] = {
                "MetricName": self.definition.metric,
                "Value": self.objective,
            }
        return result


def records(store: Store, tuning: Record) -> Selection:
    """The training jobs' records, oldest first.

    An ARN does not tell names apart that differ in capitals only, nor a tuning job from a deleted one of the same name;
    the names and the order in the table do.
    """
    prefix = f"{tuning.name}-"
    own = store.list(training_job.KIND, parent=tuning.describe["HyperParameterTuningJobArn"])
    return own.where("SUBSTR(name, 1, ?) = ?", len(prefix), prefix).where("rowid > ?", tuning.row)


def of(tuning: Record, found: Iterable[Record], plan: Plan) -> list[Child]:
    """Records as children, in the order of their numbers."""
    numbered = sorted(((_number(tuning, record), record) for record in found), key=lambda pair: pair[0])
    places = plan.places(numbered[-1][0]) if numbered else []
    return [
        Child(record, number, plan.definitions[places[number - 1][0]], places[number - 1][1])
        for number, record in numbered
    ]


def counters(children: Sequence[Child]) -> dict[str, Any]:
    statuses = Counter(child.counted_as for child in children)
    objectives = Counter(child.objective_status for child in children)
    return {
        "TrainingJobStatusCounters": {status: statuses[status] for status in _STATUSES},
        "ObjectiveStatusCounters": {status: objectives[status] for status in _OBJECTIVES},
    }


def best(children: Iterable[Child], *, maximize: bool) -> Child | None:
    """The one with the best objective of those that ended with one; of equals the one that ran to its end, then the
    first."""
    sign = 1 if maximize else -1
    return max(
        (child for child in children if child.objective_status == "Succeeded"),
        key=lambda child: (sign * (child.objective or 0.0), child.record.status == "Completed", -child.number),
        default=None,
    )


def _number(tuning: Record, record: Record) -> int:
    return int(record.name.removeprefix(f"{tuning.name}-").split("-")[0])


class Children:
    """All training jobs of a running tuning job. A look at them reads those that run; what has ended is remembered."""

    def __init__(self, platform: Platform, tuning: Record, plan: Plan) -> None:
        self._platform = platform
        self._tuning = tuning
        self._plan = plan
        self._known: dict[str, Child] = {}
        self._running: set[str] = set()
        for child in of(tuning, records(platform.store, tuning), plan):
            self._remember(child)

    @property
    def all(self) -> list[Child]:
        """In the order of their numbers."""
        return list(self._known.values())

    @property
    def running(self) -> list[Child]:
        return [self._known[name] for name in sorted(self._running)]

    @property
    def count(self) -> int:
        """The number of the last one: how many were started, also if one has been deleted since."""
        return next((child.number for child in reversed(self._known.values())), 0)

    def add(self, record: Record) -> None:
        for child in of(self._tuning, [record], self._plan):
            self._remember(child)

    def refresh(self) -> list[Child]:
        """Read what runs; returns the children whose records have changed, by a new status or a new value."""
        changed = []
        for child in self.running:
            record = self._platform.store.get(training_job.KIND, child.record.name)
            if record is None:
                del self._known[child.record.name]
                self._running.discard(child.record.name)
            elif record.modified != child.record.modified:
                changed.append(dataclasses.replace(child, record=record))
                self._remember(changed[-1])
        return changed

    def _remember(self, child: Child) -> None:
        name = child.record.name
        self._known[name] = child
        if child.ended:
            self._running.discard(name)
        else:
            self._running.add(name)
