"""One hyperparameter tuning job: the thread that starts training jobs, learns from them and picks the best.

What it knows is in its training jobs' records, so a restarted server carries on where the last one stopped.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from typing import Any

from local_sagemaker.jobs import training_job
from local_sagemaker.jobs.life import TERMINAL
from local_sagemaker.jobs.metrics import as_float32
from local_sagemaker.platform import Platform, log
from local_sagemaker.state.store import Record
from local_sagemaker.tuning import tuner

KIND = "hyper-parameter-tuning-job"

_POLL_S = 0.2

#: DescribeHyperParameterTuningJob's counters by the children's statuses.
_COUNTERS = ("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped")


def create(platform: Platform, request: dict[str, Any]) -> Record:
    """Write the record and start the job. Raises store.AlreadyExistsError for a name that is taken."""
    now = time.time()
    name = request["HyperParameterTuningJobName"]
    describe = {key: value for key, value in request.items() if key != "Tags"}
    describe |= {
        "HyperParameterTuningJobArn": platform.settings.arn(KIND, name),
        "HyperParameterTuningJobStatus": "InProgress",
        "CreationTime": now,
        "LastModifiedTime": now,
        **counters([], ""),
    }
    record = platform.store.insert(KIND, name, describe, {"tags": request.get("Tags", [])})
    carry(platform, name)
    return record


def carry(platform: Platform, name: str) -> None:
    platform.background.start(KIND, name, lambda stop: TuningJob(platform, name, stop).run())


def resume(platform: Platform) -> None:
    """After a restart: carry on with every tuning job that had not ended."""
    for record in platform.store.list(KIND):
        if record.status not in TERMINAL:
            carry(platform, record.name)


def stop(platform: Platform, name: str) -> None:
    """Ask for a stop; its running training jobs are stopped too."""

    def change(record: Record) -> None:
        if record.status == "InProgress":
            record.describe["HyperParameterTuningJobStatus"] = "Stopping"

    platform.store.update(KIND, name, change)
    platform.background.stop(KIND, name)


def objective(record: Record, metric: str) -> float | None:
    """The objective of a training job: the last value it printed. Not-a-number does not count as one."""
    series = record.internal.get("metrics", {}).get(metric)
    if not series or not math.isfinite(series[-1][1]):
        return None
    return as_float32(series[-1][1])


def counters(children: list[Record], metric: str) -> dict[str, Any]:
    statuses = dict.fromkeys(_COUNTERS, 0)
    objectives = {"Succeeded": 0, "Pending": 0, "Failed": 0}
    for child in children:
        status = {"Stopping": "InProgress", "Failed": "NonRetryableError"}.get(str(child.status), str(child.status))
        statuses[status] += 1
        objectives[objective_status(child, metric)] += 1
    return {"TrainingJobStatusCounters": statuses, "ObjectiveStatusCounters": objectives}


def objective_status(child: Record, metric: str) -> str:
    if child.status not in TERMINAL:
        return "Pending"
    return "Succeeded" if child.status != "Failed" and objective(child, metric) is not None else "Failed"


def summary(child: Record, metric: str) -> dict[str, Any]:
    """HyperParameterTrainingJobSummary of one training job."""
    members = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingStartTime", "TrainingEndTime")
    result = {name: child.describe[name] for name in members if name in child.describe}
    result |= {
        "TrainingJobStatus": child.status,
        "TunedHyperParameters": child.internal.get("tuned", {}),
        "ObjectiveStatus": objective_status(child, metric),
    }
    if "FailureReason" in child.describe:
        result["FailureReason"] = child.describe["FailureReason"]
    value = objective(child, metric)
    if value is not None and child.status in TERMINAL:
        result["FinalHyperParameterTuningJobObjectiveMetric"] = {"MetricName": metric, "Value": value}
    return result


def children(platform: Platform, record: Record) -> list[Record]:
    """The training jobs of a tuning job, oldest first."""
    return platform.store.list(training_job.KIND, parent=record.describe["HyperParameterTuningJobArn"])


class TuningJob:
    def __init__(self, platform: Platform, name: str, stop: threading.Event) -> None:
        record = platform.store.get(KIND, name)
        if record is None:
            raise KeyError(f"no {KIND} '{name}'")
        self._platform = platform
        self._stop = stop
        self._record = record
        self._config: dict[str, Any] = record.describe["HyperParameterTuningJobConfig"]
        self._definition: dict[str, Any] = record.describe["TrainingJobDefinition"]
        self._limits: dict[str, int] = self._config["ResourceLimits"]
        self._metric: str = self._config["HyperParameterTuningJobObjective"]["MetricName"]
        self._maximize = self._config["HyperParameterTuningJobObjective"]["Type"] == "Maximize"
        self._ranges = tuner.parse_ranges(self._config["ParameterRanges"])

    def run(self) -> None:
        try:
            self._search()
        except Exception as error:
            log.exception("tuning job '%s'", self._record.name)
            self._end("Failed", [], f"InternalServerError: {type(error).__name__}: {error}")

    def _search(self) -> None:
        if self._record.status == "Stopping":
            self._stop.set()
        seen: list[tuple[str, str | None]] = []
        while not self._platform.background.shutdown.is_set():
            jobs = children(self._platform, self._record)
            running = [job for job in jobs if job.status not in TERMINAL]
            state = [(job.name, job.status) for job in jobs]
            if state != seen:
                self._publish(jobs)
                seen = state
            for job in self._hopeless(jobs):
                training_job.stop(self._platform, job.name)
            if self._stop.is_set() or self._expired():
                for job in running:
                    training_job.stop(self._platform, job.name)
                if not running:
                    return self._end("Stopped" if self._stop.is_set() else "Completed", jobs)
            elif len(jobs) < self._limits["MaxNumberOfTrainingJobs"] and not self._target_reached(jobs):
                if len(running) < self._limits["MaxParallelTrainingJobs"]:
                    self._launch(jobs)
                    continue
            elif not running:
                return self._end("Completed", jobs)
            self._stop.wait(_POLL_S) if not self._stop.is_set() else time.sleep(_POLL_S)

    def _launch(self, jobs: list[Record]) -> None:
        trials = [self._trial(job, job.internal["tuned"]) for job in jobs]
        tuned = tuner.suggest(
            self._ranges,
            self._inherited() + trials,
            strategy=self._config["Strategy"],
            maximize=self._maximize,
            seed=self._config.get("RandomSeed", int(self._record.created)),
        )
        request = {key: value for key, value in self._definition.items() if key in _SHARED_MEMBERS}
        request["TrainingJobName"] = f"{self._record.name}-{len(jobs) + 1:03d}-{uuid.uuid4().hex[:8]}"
        request["HyperParameters"] = {
            **self._definition.get("StaticHyperParameters", {}),
            **tuned,
            "_tuning_objective_metric": self._metric,
        }
        training_job.create(
            self._platform,
            request,
            tuning_job_arn=self._record.describe["HyperParameterTuningJobArn"],
            parallel=self._limits["MaxParallelTrainingJobs"],
            tuned=tuned,
        )

    def _trial(self, job: Record, tuned: dict[str, str]) -> tuner.Trial:
        return tuner.Trial(
            hyperparameters=tuned,
            objective=objective(job, self._metric) if job.status in {"Completed", "Stopped"} else None,
            running=job.status not in TERMINAL,
        )

    def _inherited(self) -> list[tuner.Trial]:
        """What the parents of a warm start have learned, as far as it fits these ranges."""
        parents = self._record.describe.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", [])
        records = (self._platform.store.get(KIND, parent["HyperParameterTuningJobName"]) for parent in parents)
        jobs = [job for record in records if record for job in children(self._platform, record)]
        tuned = ((job, tuner.usable(self._ranges, job.describe.get("HyperParameters", {}))) for job in jobs)
        return [self._trial(job, values) for job, values in tuned if values and job.status in TERMINAL]

    def _hopeless(self, jobs: list[Record]) -> list[Record]:
        """The running jobs that early stopping gives up."""
        if self._config.get("TrainingJobEarlyStoppingType", "Off") == "Off":
            return []
        finished = [self._values(job) for job in jobs if job.status == "Completed"]
        running = [job for job in jobs if job.status == "InProgress"]
        return [job for job in running if tuner.hopeless(self._values(job), finished, maximize=self._maximize)]

    def _values(self, job: Record) -> list[float]:
        return [value for _, value in job.internal.get("metrics", {}).get(self._metric, []) if math.isfinite(value)]

    def _expired(self) -> bool:
        return time.time() > self._record.created + self._limits.get("MaxRuntimeInSeconds", math.inf)

    def _target_reached(self, jobs: list[Record]) -> bool:
        target = self._config.get("TuningJobCompletionCriteria", {}).get("TargetObjectiveMetricValue")
        best = self._best(jobs)
        if target is None or best is None:
            return False
        value = objective(best, self._metric)
        return value is not None and (value >= target if self._maximize else value <= target)

    def _best(self, jobs: list[Record]) -> Record | None:
        """The best of the jobs that succeeded; of equals the one that was first."""
        succeeded = [job for job in jobs if objective_status(job, self._metric) == "Succeeded"]
        sign = 1 if self._maximize else -1
        return max(succeeded, key=lambda job: sign * (objective(job, self._metric) or 0.0), default=None)

    def _publish(self, jobs: list[Record]) -> None:
        def change(record: Record) -> None:
            record.describe |= counters(jobs, self._metric)
            best = self._best(jobs)
            if best is not None:
                record.describe["BestTrainingJob"] = summary(best, self._metric)

        self._platform.store.update(KIND, self._record.name, change)

    def _end(self, status: str, jobs: list[Record], reason: str | None = None) -> None:
        if status == "Completed" and self._best(jobs) is None:
            status = "Failed"
            reasons = {job.describe.get("FailureReason", "no value of the objective was printed") for job in jobs}
            reason = f"No training job succeeded with the objective '{self._metric}': {'; '.join(sorted(reasons))}"

        def change(record: Record) -> None:
            record.describe["HyperParameterTuningJobStatus"] = status
            record.describe["HyperParameterTuningEndTime"] = time.time()
            seconds = sum(job.describe.get("TrainingTimeInSeconds", 0) for job in jobs)
            record.describe["ConsumedResources"] = {"RuntimeInSeconds": seconds}
            if reason:
                record.describe["FailureReason"] = reason[:1024]

        self._platform.store.update(KIND, self._record.name, change)


#: The members of a tuning job's definition that a CreateTrainingJob request has too.
_SHARED_MEMBERS = {
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "VpcConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "CheckpointConfig",
    "RetryStrategy",
    "Environment",
}
