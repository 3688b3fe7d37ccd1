"""The record of one training job as the thread that carries it reads and writes it.

All that must outlive this process is here: the statuses, which attempt it is and whether its processes were started, a
wish to interrupt it, its metrics. Every change is durable when its method returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from local_sagemaker.jobs import status as job_status
from local_sagemaker.jobs.metrics import JOB_CPU_S, final_metrics
from local_sagemaker.sandbox.patterns import CPU_S
from local_sagemaker.state import logs
from local_sagemaker.state.logs import Logs
from local_sagemaker.state.store import Record, Store

KIND = "training-job"

END_MARKER = "training_job_end.ts"


class TrainingRecord:
    def __init__(self, store: Store, lines: Logs, name: str) -> None:
        self._store, self._logs = store, lines
        self._name = name

    def read(self) -> Record:
        record = self._store.get(KIND, self._name)
        if record is None:
            raise KeyError(f"no {KIND} '{self._name}'")
        return record

    @property
    def attempt(self) -> dict[str, Any]:
        """Of the attempt under way: `epoch`, `metrics_before`, `started`, `command`, `shut_down`, as far as known."""
        found: dict[str, Any] = self.read().internal.get("attempt", {})
        return found

    @property
    def stopping(self) -> bool:
        """Whether StopTrainingJob was called and the job has not ended."""
        return self.read().status == "Stopping"

    def enter(self, secondary: str) -> None:
        """Enter a secondary status; a job that is being stopped only enters Uploading."""

        def change(record: Record) -> None:
            current = record.describe["SecondaryStatus"]
            if current != secondary and (current != "Stopping" or secondary == "Uploading"):
                job_status.enter(record.describe, secondary, time.time())

        self._change(change)

    def started(self, command: list[str]) -> None:
        """Every host's process runs; `command` is what the first one runs."""

        def change(record: Record) -> None:
            record.internal.setdefault("attempt", {}).update(started=True, command=command)
            if record.describe["SecondaryStatus"] != "Stopping":
                job_status.enter(record.describe, "Training", time.time())

        self._change(change)

    def shut_down(self) -> None:
        """The processes are being ended with the server: how they end is no fault of theirs."""
        self._change(lambda record: record.internal.setdefault("attempt", {}).update(shut_down=True))

    def measured(self, series: dict[str, list[list[float]]]) -> None:
        """Metric's name → [timestamp, value] pairs, all of them."""

        def change(record: Record) -> None:
            record.internal["metrics"] = series
            record.describe["FinalMetricDataList"] = final_metrics(series)

        self._change(change)

    @property
    def overran(self) -> list[int]:
        """The positions of the MetricDefinitions that were given up."""
        found: list[int] = self.read().internal.get("overran", [])
        return found

    def give_up(self, overran: Iterable[int]) -> None:
        """Never try these MetricDefinitions again, whoever carries the job on; what they found so far stays."""
        definitions: list[dict[str, str]] = []

        def change(record: Record) -> None:
            definitions.extend(record.describe["AlgorithmSpecification"]["MetricDefinitions"])
            record.internal["overran"] = sorted({*record.internal.get("overran", []), *overran})

        self._change(change)
        for place in sorted(overran):
            metric = definitions[place]
            self.say(
                f"Metric '{metric['Name']}': its Regex '{metric['Regex']}' took more than {CPU_S:g} s on at most 1 MB "
                f"of output, or most of the {JOB_CPU_S:g} s that all may take, and is given up for this job; its "
                "values up to here stay. Name what stands before the number, without a repetition within or beside "
                "another one."
            )

    def request_stop(self, message: str | None = None) -> None:
        """Ask for a stop, and say why in the transition; a job that has ended stays as it is.

        Its thread has to be told too.
        """

        def change(record: Record) -> None:
            job_status.stop_requested(record.describe, time.time(), message)

        self._change(change)

    def interrupted(self) -> None:
        """The spot instances are gone, and the next attempt begins."""

        def change(record: Record) -> None:
            record.internal.pop("interrupt", None)
            job_status.enter(record.describe, "Interrupted", time.time())
            _next_attempt(record)
            job_status.enter(record.describe, "Starting", time.time())

        self._change(change)

    def restarted(self, reason: str) -> bool:
        """Begin another attempt after an internal error, if the RetryStrategy has one left; whether it has."""
        again = False

        def change(record: Record) -> None:
            nonlocal again
            again = record.status == "InProgress" and job_status.retries_left(record.describe)
            if again:
                job_status.enter(record.describe, "Restarting", time.time(), job_status.told(reason))
                _next_attempt(record)

        self._change(change)
        return again

    def end(self, status: str, reason: str | None = None, secondary: str | None = None) -> None:
        def change(record: Record) -> None:
            job_status.finish(record.describe, status, time.time(), reason, secondary)
            record.internal.pop("interrupt", None)
            if "WarmPoolStatus" in record.describe:  # nothing is kept warm here
                record.describe["WarmPoolStatus"] = {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 0}

        if reason:
            self.say(reason)
        self._change(change)

    def say(self, message: str) -> None:
        """A line of the platform's own, in a stream beside the script's."""
        self._logs.put(logs.TRAINING_JOBS, f"{self._name}/platform", [f"[local_sagemaker] {message}"])

    def _change(self, change: Callable[[Record], None]) -> None:
        self._store.update(KIND, self._name, change)


def epoch(record: Record) -> int:
    """The number that tells the folders and log streams of one attempt from those of the others: when it began."""
    return int(record.internal.get("attempt", {}).get("epoch", record.created))


def _next_attempt(record: Record) -> None:
    """It starts from nothing but the checkpoints; only metrics go on."""
    record.internal["attempt"] = {
        "epoch": max(epoch(record) + 1, int(time.time())),
        "metrics_before": record.internal.get("metrics", {}),
    }
