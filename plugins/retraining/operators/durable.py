"""A SageMaker job that survives its Airflow task: found again after a crash, a retry or a clear, and never paid twice.

The job's name derives from the run, and every attempt begins by asking for it: in progress, it is adopted; completed,
its result is used; missing, it is created; made by somebody else, it is refused. `execute` and the resumption after a
wait are the same function, so a process may die between any two lines.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from airflow.providers.amazon.aws.operators.sagemaker import SageMakerBaseOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from botocore.exceptions import BotoCoreError, ClientError

from retraining.identity import require_own
from retraining.job_kinds import (
    MAX_GENERATIONS,
    QUEUE_ALLOWANCE_SECONDS,
    JobKind,
    already_exists,
    is_missing,
    is_platform_failure,
)
from retraining.links import JOB_LINKS
from retraining.run import client
from retraining.triggers import SageMakerJobTrigger

LOG_LINES, LOG_STREAMS = 20, 5
MOST_STREAMS = 50  # of one answer of CloudWatch Logs


class DurableJob(SageMakerBaseOperator):
    """Mixed in front of a stock operator; `kind` names the entry of job_kinds.KINDS, `limit_seconds` its own limit."""

    kind: ClassVar[JobKind]
    operator_extra_links = JOB_LINKS

    def __init__(self, *, poll_seconds: float = 30, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.poll_seconds = poll_seconds

    def execute(self, context: Context) -> dict[str, Any]:
        if not self.config:
            context["ti"].xcom_push(key="job", value=None)  # so that the link finds that there is none
            raise AirflowSkipException(f"There is nothing for {self.task_id} to do in this run.")
        self.preprocess_config()
        return self.ensure(context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        if event and event["status"] == "Deadline":
            name = event["name"]
            self._stop(name)
            raise AirflowFailException(
                f"{self.kind.name.capitalize()} job {name} had not ended by its deadline and was asked to stop."
            )
        return self.ensure(context)

    def ensure(self, context: Context) -> dict[str, Any]:
        """The result of this purpose's job, whoever created it; defers while it is in progress."""
        base = self.config[self.kind.name_key]
        for number in range(1, MAX_GENERATIONS + 1):
            name = self.kind.generation(base, number)
            job = self.describe(name)
            if job is None:
                self._create(name)
                job = self._described(name)
            require_own(self.kind.name, name, self.config, job)
            context["ti"].xcom_push(key="job", value={"kind": self.kind.name, "name": name})
            if self.kind.in_progress(job):
                self._wait_for(name, job)
            status = self.kind.status(job)
            if status == "Completed":
                self.log.info("%s job %s is Completed.", self.kind.name.capitalize(), name)
                return self.result(job)
            reason = str(job.get("FailureReason", ""))
            if status != "Failed" or not is_platform_failure(reason):
                return self.ended_badly(context, job)
            self.log.warning("Job %s failed because of the platform, not of what it ran: %s", name, reason)
        raise AirflowFailException(
            f"{MAX_GENERATIONS} jobs in a row failed because of the platform; the last: {reason}"
        )

    def result(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """What the next tasks need of a completed job: a small record, the same whoever waited for it."""
        raise NotImplementedError

    def ended_badly(self, context: Context, job: Mapping[str, Any]) -> dict[str, Any]:
        """For a job that failed or was stopped, and that another one would not help."""
        raise AirflowFailException(self.failure(job))

    def limit_seconds(self) -> int:
        """After how long SageMaker itself ends the job."""
        raise NotImplementedError

    def describe(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(getattr(self.hook.conn, self.kind.describe)(**{self.kind.name_key: name}))
        except ClientError as error:
            if is_missing(error):
                return None
            raise

    def failure(self, job: Mapping[str, Any]) -> str:
        """Everything needed to understand a job that ended badly, in one message."""
        name, status = job[self.kind.name_key], self.kind.status(job)
        reason = job.get("FailureReason") or "no reason given"
        tail = log_tail(self.kind, name) if self.kind.log_group else []
        lines = "".join(f"\n    {line}" for line in tail)
        last = f"\nThe last lines of its log:{lines}" if tail else ""
        return (
            f"{self.kind.name.capitalize()} job {name} is {status}: {reason}{last}\n"
            "Fix the cause and trigger a new run; clearing this task would only find the same job again."
        )

    def on_kill(self) -> None:
        # Airflow calls this for every SIGTERM: a rollout, a lost heartbeat, an api-server that was away for a minute.
        # The job is worth more than the process; the next attempt adopts it, and it has its own time limit.
        self.log.warning("This process was told to end. The SageMaker job, if any, goes on and will be adopted.")

    def _create(self, name: str) -> None:
        self.log.info("Creating %s job %s.", self.kind.name, name)
        try:
            self._send(self.config | {self.kind.name_key: name})
        except ClientError as error:
            if not already_exists(error):
                raise
            self.log.info("%s exists already: an earlier attempt created it.", name)

    def _send(self, request: dict[str, Any]) -> None:
        assert self.kind.create is not None
        getattr(self.hook.conn, self.kind.create)(**request)

    def _described(self, name: str) -> dict[str, Any]:
        job = self.describe(name)
        if job is None:
            raise AirflowException(f"SageMaker does not know {self.kind.name} job {name} although it was just created.")
        return job

    def _wait_for(self, name: str, job: Mapping[str, Any]) -> None:
        deadline = job["CreationTime"].timestamp() + self.limit_seconds() + QUEUE_ALLOWANCE_SECONDS
        self.log.info("Waiting for %s job %s (%s).", self.kind.name, name, self.kind.status(job))
        self.defer(
            trigger=SageMakerJobTrigger(
                kind=self.kind.name,
                name=name,
                deadline=deadline,
                poll_seconds=self.poll_seconds,
                aws_conn_id=self.aws_conn_id or "",
                region_name=self.region_name,
            ),
            method_name="execute_complete",
            # Airflow's own timeout would not stop the job, so it is only the net below the trigger's deadline.
            timeout=timedelta(seconds=max(60.0, deadline - time.time() + 600)),
        )

    def _stop(self, name: str) -> None:
        assert self.kind.stop is not None
        getattr(self.hook.conn, self.kind.stop)(**{self.kind.name_key: name})


def log_tail(kind: JobKind, name: str, since: datetime | None = None) -> list[str]:
    """The last lines a job logged, or nothing: a failure must be told even when its log cannot be read.

    Of an endpoint those of its newest instances, with `since` of those that began after it.
    """
    logs, lines = client("logs"), []
    asked = kind.log_streams(name)
    try:
        found = logs.describe_log_streams(**asked, limit=MOST_STREAMS)["logStreams"]
        began = since.timestamp() * 1000 if since else 0
        new = [stream for stream in found if stream.get("creationTime", 0) >= began]
        for stream in sorted(new, key=lambda one: one.get("creationTime", 0))[-LOG_STREAMS:]:
            events = logs.get_log_events(
                logGroupName=asked["logGroupName"], logStreamName=stream["logStreamName"], limit=LOG_LINES
            )
            lines += [str(event["message"]) for event in events["events"]]
    except (BotoCoreError, ClientError):
        pass
    return lines[-LOG_LINES:]
