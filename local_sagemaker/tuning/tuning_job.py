"""One hyperparameter tuning job: the thread that starts training jobs, learns from them and picks the best.

What it knows is in its training jobs' records, so a restarted server carries on where the last one stopped: a trial
exists from the moment its record is committed, and the next one's number is one more than the last one's.
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

from local_sagemaker.background import log
from local_sagemaker.jobs import training_job
from local_sagemaker.jobs.status import TERMINAL, told
from local_sagemaker.platform import Platform
from local_sagemaker.state.store import Record, Store
from local_sagemaker.tuning import child as child_jobs
from local_sagemaker.tuning import hyperband, search, warm_start
from local_sagemaker.tuning.child import Child, Children
from local_sagemaker.tuning.completion import Progress
from local_sagemaker.tuning.early_stopping import MedianRule
from local_sagemaker.tuning.plan import Plan
from local_sagemaker.wire.errors import ApiError

KIND = "hyper-parameter-tuning-job"

# A tuning job looks at its running training jobs ten times a second while something happens, and less often, down to
# once a second, the longer nothing does.
_MIN_POLL_S, _MAX_POLL_S, _PATIENCE = 0.1, 1.0, 50

#: SageMaker gives up when so many training jobs have failed and none has succeeded.
_HOPELESS_FAILURES = 5


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
        **child_jobs.counters([]),
    }
    record = platform.store.insert(KIND, name, describe, {"tags": request.get("Tags", [])})
    carry(platform, name)
    return record


def carry(platform: Platform, name: str) -> None:
    platform.background.start(KIND, name, lambda stop: TuningJob(platform, name, stop).run(), waits_for_none=False)


def resume(platform: Platform) -> None:
    """After a restart: carry on with every tuning job that had not ended."""
    for record in platform.store.list(KIND):
        if record.status not in TERMINAL:
            carry(platform, record.name)


def children(store: Store, record: Record) -> list[Record]:
    """The training jobs of a tuning job, oldest first."""
    return list(child_jobs.records(store, record))


class TuningJob:
    """The thread's side of one job. `stop` is set by StopHyperParameterTuningJob and by the server's own shutdown."""

    def __init__(self, platform: Platform, name: str, stop: threading.Event) -> None:
        record = platform.store.get(KIND, name)
        if record is None:
            raise KeyError(f"no {KIND} '{name}'")
        self._platform = platform
        self._stop = stop
        self._shutdown = platform.background.shutdown
        self._record = record

    def run(self) -> None:
        try:
            self._plan = Plan.of(self._record.describe)
            self._children = Children(self._platform, self._record, self._plan)
            self._median = MedianRule(maximize=self._plan.maximize)
            self._parents, self._inherited = self._look_at_parents()
            self._search()
        except ApiError as error:
            self._end("Failed", f"ClientError: {error.message}")
        except Exception as error:
            log.exception("tuning job '%s'", self._record.name)
            self._end("Failed", f"InternalServerError: {type(error).__name__}: {error}")

    def _search(self) -> None:
        if self._record.status == "Stopping":
            self._stop.set()
        for child in self._children.all:
            self._learn(child)
        self._publish()
        last_change = time.monotonic()
        while not self._step():
            changed = self._children.refresh()
            if changed:
                last_change = time.monotonic()
            self._look_at(changed)
            quiet_s = time.monotonic() - last_change
            self._pause(min(_MAX_POLL_S, max(_MIN_POLL_S, quiet_s / _PATIENCE)))

    def _step(self) -> bool:
        """Do what is to be done now; returns whether the job is over, or the server is."""
        stopped = self._stop.is_set()
        if self._shutdown.is_set():  # it sets `stop` too, and is set first
            return True
        running = self._children.running
        if stopped or self._is_over():
            for child in running:
                training_job.stop(
                    self._platform.store, self._platform.logs, self._platform.background, child.record.name
                )
        elif self._children.count < self._plan.max_jobs and not self._hopeless:
            for _ in range(min(self._plan.max_parallel - len(running), self._plan.max_jobs - self._children.count)):
                self._launch()
            return False
        if running:
            return False
        self._end("Stopped" if stopped else "Completed")
        return True

    def _pause(self, seconds: float) -> None:
        (self._shutdown if self._stop.is_set() else self._stop).wait(seconds)

    # -- trials ---------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        number = self._children.count + 1
        turn, _ = self._plan.places(number)[-1]
        definition = self._plan.definitions[turn]
        tuned = search.suggest(
            definition.ranges,
            [self._trial(child) for child in self._children.all if child.definition is definition],
            strategy=self._plan.strategy,
            maximize=self._plan.maximize,
            seed=f"{self._seed}/{turn}",
            inherited=self._inherited,
            other_data=self._warm_start_type != warm_start.IDENTICAL,
        )
        name = f"{self._record.name}-{number:03d}-{uuid.uuid4().hex[:8]}"
        record = training_job.create(
            self._platform,
            definition.training_request(name, tuned, self._record.internal.get("tags", [])),
            tuning_job_arn=self._record.describe["HyperParameterTuningJobArn"],
            parallel=self._plan.max_parallel,
            tuned=tuned,
        )
        self._children.add(record)
        self._publish()

    @property
    def _seed(self) -> str:
        """RandomSeed; without one, what makes this tuning job differ from all others and survives a restart."""
        config = self._record.describe["HyperParameterTuningJobConfig"]
        return str(config.get("RandomSeed", self._record.created))

    def _trial(self, child: Child) -> search.Trial:
        objective = child.objective if child.ended else None
        return search.Trial(hyperparameters=child.tuned, objective=objective, running=not child.ended)

    @property
    def _warm_start_type(self) -> str | None:
        given: str | None = self._record.describe.get("WarmStartConfig", {}).get("WarmStartType")
        return given

    def _look_at_parents(self) -> tuple[list[dict[str, Any]], list[search.Trial]]:
        """The parents' best training jobs, and what all their training jobs have learned, as far as it fits."""
        bests, trials = [], []
        ranges = self._plan.definitions[0].ranges
        for name in warm_start.parents(self._record.describe):
            parent = self._platform.store.get(KIND, name)
            if parent is None:  # deleted since
                continue
            if "BestTrainingJob" in parent.describe:
                bests.append(parent.describe["BestTrainingJob"] | {"TuningJobName": name})
            for child in child_jobs.of(
                parent, child_jobs.records(self._platform.store, parent), Plan.of(parent.describe)
            ):
                values = warm_start.usable(ranges, child.record.describe.get("HyperParameters", {}))
                if values and child.objective_status == "Succeeded":
                    trials.append(search.Trial(hyperparameters=values, objective=child.objective))
        return bests, trials

    # -- looking --------------------------------------------------------------------------------------------------

    def _look_at(self, changed: list[Child]) -> None:
        for child in changed:
            if child.record.status == "InProgress" and self._is_given_up(child):
                training_job.stop(
                    self._platform.store, self._platform.logs, self._platform.background, child.record.name
                )
            self._learn(child)
        if any(child.ended for child in changed):
            self._publish()

    def _learn(self, child: Child) -> None:
        if child.record.status == "Completed":
            self._median.add([value for _, value in child.series])

    def _is_given_up(self, child: Child) -> bool:
        if self._plan.early_stopping:
            return self._median.is_hopeless([value for _, value in child.series])
        if not self._plan.brackets:
            return False
        bracket = self._bracket(child)
        others = [
            other.series
            for other in self._children.all
            if other.number != child.number and other.definition is child.definition and self._bracket(other) == bracket
        ]
        return hyperband.is_stopped(
            self._plan.brackets[bracket],
            child.series,
            others,
            self._plan.max_resource,
            maximize=self._plan.maximize,
        )

    def _bracket(self, child: Child) -> int:
        return hyperband.bracket_of(child.index, self._plan.brackets)

    def _progress(self) -> Progress:
        ended = [
            (child.end_time, child.objective)
            for child in self._children.all
            if child.ended and child.objective is not None
        ]
        return Progress.of(
            sorted((time, value) for time, value in ended if value is not None),
            maximize=self._plan.maximize,
            num_tunables=self._plan.num_tunables,
        )

    def _is_over(self) -> bool:
        return time.time() > self._record.created + self._plan.max_runtime_s or self._published.suffices(
            self._plan.criteria, maximize=self._plan.maximize
        )

    # -- telling --------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        all_children = self._children.all
        self._published = self._progress()
        # Of internal errors the user's script is not guilty.
        ended = [child for child in all_children if child.ended and child.counted_as != "RetryableError"]
        self._hopeless = len(ended) >= _HOPELESS_FAILURES and all(child.objective is None for child in ended)
        best = child_jobs.best(all_children, maximize=self._plan.maximize)
        members = child_jobs.counters(all_children)
        members["TuningJobCompletionDetails"] = self._published.details()
        members["ConsumedResources"] = {"RuntimeInSeconds": round(time.time() - self._record.created)}
        if best is not None:
            members["BestTrainingJob"] = best.summary()
        if self._warm_start_type == warm_start.IDENTICAL:
            summaries = [*self._parents, *([best.summary()] if best else [])]
            members |= _overall_best(summaries, self._record.name, maximize=self._plan.maximize)
        self._platform.store.update(KIND, self._record.name, lambda record: record.describe.update(members))

    def _end(self, status: str, reason: str | None = None) -> None:
        if status == "Completed" and not any(child.objective_status == "Succeeded" for child in self._children.all):
            status, reason = "Failed", self._failure_reason()

        def change(record: Record) -> None:
            record.describe["HyperParameterTuningJobStatus"] = status
            record.describe["HyperParameterTuningEndTime"] = time.time()
            runtime_s = round(time.time() - self._record.created)
            record.describe["ConsumedResources"] = {"RuntimeInSeconds": runtime_s}
            if reason:
                record.describe["FailureReason"] = told(reason)

        self._platform.store.update(KIND, self._record.name, change)

    def _failure_reason(self) -> str:
        """SageMaker's sentence, and what the training jobs said."""
        jobs = self._children.all
        reasons = {str(job.record.describe["FailureReason"]) for job in jobs if "FailureReason" in job.record.describe}
        if reasons:
            return (
                f"No training job succeeded after {len(jobs)} attempts. Please take a look at the training job "
                f"failures to get more details. {'; '.join(sorted(reasons))}"
            )
        return (
            f"No objective metrics found after running {len(jobs)} training jobs. Please ensure that the custom "
            "algorithm is emitting the objective metric as defined by the regular expression provided: "
            f"{', '.join(definition.metric for definition in self._plan.definitions)}."
        )


def _overall_best(summaries: list[dict[str, Any]], name: str, *, maximize: bool) -> dict[str, Any]:
    """OverallBestTrainingJob over this tuning job and its parents; empty while nobody has an objective."""
    if not summaries:
        return {}
    sign = 1 if maximize else -1
    best = max(summaries, key=lambda job: sign * job["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])
    return {"OverallBestTrainingJob": {"TuningJobName": name} | best}
