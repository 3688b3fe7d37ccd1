"""One processing job from CreateProcessingJob to its last status, and the thread that carries it there.

Its hosts are processes on this machine, each with a folder and a log stream of its own; when one fails, the others are
ended. Outputs with S3UploadMode EndOfJob are uploaded when the job completed or was stopped, Continuous ones always;
a job over its MaxRuntimeInSeconds ends as Stopped. AWS documents neither. The evaluation of a Debugger rule is a
processing job too, but rule_evaluation.py carries it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_sagemaker.background import log
from local_sagemaker.failures import JobFailedError
from local_sagemaker.jobs import processing_container as container
from local_sagemaker.jobs import slot
from local_sagemaker.jobs import status as job_status
from local_sagemaker.jobs.attempt import Attempt, End
from local_sagemaker.jobs.cluster import Host
from local_sagemaker.jobs.host_process import HostProcess
from local_sagemaker.jobs.live_copies import LiveCopies
from local_sagemaker.jobs.processing_container import ProcessingContainer
from local_sagemaker.platform import Platform
from local_sagemaker.sandbox import disk
from local_sagemaker.sandbox.disk import Quota
from local_sagemaker.state import logs
from local_sagemaker.state.store import Record

KIND = "processing-job"

RULE = "rule"
"""The key of a record's internal part that marks the evaluation of a Debugger rule."""

_LAST_LINES_LIMIT = 700


def create(platform: Platform, request: dict[str, Any], waived: str | None = None) -> Record:
    """Write the record and start the job. Raises store.AlreadyExistsError for a name that is taken.

    `waived` is a line for the log about something that the request asks for and does not get.
    """
    now = time.time()
    name = request["ProcessingJobName"]
    describe = {key: value for key, value in request.items() if key != "Tags"} | container.defaults(request)
    describe |= {
        "ProcessingJobArn": platform.settings.arn(KIND, name),
        "ProcessingJobStatus": "InProgress",
        "CreationTime": now,
        "LastModifiedTime": now,
    }
    record = platform.store.insert(KIND, name, describe, {"tags": request.get("Tags", []), "waived": waived})
    carry(platform, name)
    return record


def carry(platform: Platform, name: str) -> None:
    """Start the thread of a job: a new one, or one that an earlier server left unfinished."""
    platform.background.start(KIND, name, lambda stop: ProcessingJob(platform, name, stop).run())


def resume(platform: Platform) -> None:
    """After a restart: follow, finish or fail every job that an earlier server left."""
    for record in platform.store.list(KIND).where("status IN ('InProgress', 'Stopping')"):
        if RULE not in record.internal:
            carry(platform, record.name)


class ProcessingJob:
    """The thread's side of one job. `stop` is set by StopProcessingJob and by the server's own shutdown."""

    def __init__(self, platform: Platform, name: str, stop: threading.Event) -> None:
        self._platform = platform
        self._name = name
        self._stop = stop
        record = platform.store.get(KIND, name)
        if record is None:
            raise KeyError(f"no {KIND} '{name}'")
        self._request = record.describe
        self._waived: str | None = record.internal.get("waived")
        self._folder = platform.settings.folder(KIND, name)
        self._hosts = [
            self._host(number, record.created) for number in range(1, container.instance_count(self._request) + 1)
        ]
        self._container = ProcessingContainer(platform, self._request, self._hosts)

    def _host(self, number: int, created: float) -> HostProcess:
        host = Host(name=f"algo-{number}", instance_type=container.instance_type(self._request))
        stream = f"{self._name}/{host.name}-{int(created)}"
        known = self._platform.logs.count(logs.PROCESSING_JOBS, stream)
        shown = Path(container.BASE) if self._platform.isolation.mounts else None
        return HostProcess(self._folder, host, shown, stream, known)

    def run(self) -> None:
        if self._request["ProcessingJobStatus"] == "Stopping":
            self._stop.set()
        try:
            self._execute()
        except JobFailedError as error:
            self._end("Failed", str(error))
        except Exception as error:
            log.exception("processing job '%s'", self._name)
            self._end(
                "Failed", job_status.fault_of_job(error) or f"InternalServerError: {type(error).__name__}: {error}"
            )

    def _execute(self) -> None:
        adopted = self._adopt()
        with (
            slot.held(self._platform.background, self._stop) as held,
            self._platform.cores.share(container.instance_type(self._request), len(self._hosts)) as num_threads,
        ):
            if not adopted and not (held and self._start(num_threads)):
                return self._stopped_early()
            copies = LiveCopies(self._name, [*self._container.mirrors("Continuous")])
            copies.start()
            attempt = Attempt(self._hosts, self._collect)
            try:
                end = attempt.follow(self._wanted())
            finally:
                copies.finish()
        self._conclude(end, attempt.failed)

    def _adopt(self) -> bool:
        """Take over the processes of an earlier server, if it came as far as starting them."""
        if not any(process.was_started for process in self._hosts):
            return False
        adopted = [process.adopt() for process in self._hosts]
        if not all(adopted):
            for process in self._hosts:
                process.kill()
            raise JobFailedError("InternalServerError: the job's process ended while the local SageMaker was down")
        return True

    def _start(self, num_threads: int) -> bool:
        """Whether its processes run now; False when the job was stopped before they did."""
        if self._stop.is_set():
            return False
        disk.remove(self._folder)
        if self._waived:
            self._say(self._waived)
        self._container.prepare(self._stop.is_set)
        if self._stop.is_set():
            return False
        self._container.start(num_threads)
        return True

    def _wanted(self) -> Callable[[], End | None]:
        """A function that says whether and why the processes have to end."""

        def started(record: Record) -> None:
            record.describe.setdefault("ProcessingStartTime", time.time())

        self._request = self._platform.store.update(KIND, self._name, started).describe
        deadline = self._request["ProcessingStartTime"] + self._request["StoppingCondition"]["MaxRuntimeInSeconds"]
        volume = self._request["ProcessingResources"]["ClusterConfig"]["VolumeSizeInGB"] * 2**30
        quota = Quota(self._folder, volume * len(self._hosts))
        limit, grace_s = self._platform.settings.max_log_bytes, self._platform.settings.stop_grace_s

        def wanted() -> End | None:
            if self._platform.background.shutdown.is_set():
                return End("shutdown", 0.0)
            if self._stop.is_set():
                return End("stopped", grace_s)
            if time.time() > deadline:
                return End("limit", grace_s)
            if sum(process.printed_bytes for process in self._hosts) > limit:
                return End("refused", 0.0, f"ClientError: the job printed more than {limit} bytes; print less")
            problem = quota.problem()
            return End("refused", 0.0, problem) if problem else None

        return wanted

    def _collect(self, process: HostProcess) -> None:
        _, fresh = process.new_lines()
        self._platform.logs.put(logs.PROCESSING_JOBS, process.log_stream, fresh)

    def _conclude(self, end: End | None, failed: HostProcess | None) -> None:
        """From the end of the processes to the job's last status."""
        kind = end.kind if end else None
        if kind == "shutdown":
            raise JobFailedError("InternalServerError: the local SageMaker was shut down while the job was running")
        if kind == "refused" and end:
            raise JobFailedError(end.detail)
        message = self._container.message()
        if failed and kind not in ("stopped", "limit"):
            return self._end("Failed", self._failure(failed), message)
        for mirror in self._container.mirrors("EndOfJob"):
            mirror.sync()
        self._end("Stopped" if kind else "Completed", None, message)

    def _failure(self, failed: HostProcess) -> str:
        where = f"{failed.host.name}: " if len(self._hosts) > 1 else ""
        words = "\n".join(failed.last_lines).strip()[-_LAST_LINES_LIMIT:]
        said = f" Last output: {words}" if words else ""
        hint = " (killed, most often because the machine ran out of memory)" if failed.exit_code == 137 else ""
        return f"AlgorithmError: See job logs for more information. {where}exit code {failed.exit_code}{hint}.{said}"

    # -- statuses -------------------------------------------------------------------------------------------------

    def _stopped_early(self) -> None:
        """Before anything ran. At the server's own shutdown the record stays, for the next server."""
        if not self._platform.background.shutdown.is_set():
            self._end("Stopped")

    def _end(self, status: str, reason: str | None = None, message: str | None = None) -> None:
        self._clean()
        if reason:
            self._say(reason)

        def change(record: Record) -> None:
            record.describe |= {"ProcessingJobStatus": status, "ProcessingEndTime": time.time()}
            if reason:
                record.describe["FailureReason"] = job_status.told(reason)
            if message:
                record.describe["ExitMessage"] = message

        self._platform.store.update(KIND, self._name, change)

    def _clean(self) -> None:
        """What is wanted of it is in S3 now; the folder would only fill the disk. What was printed stays."""
        for process in self._hosts:
            for path in process.folder.glob("*"):
                if path.name != "process":
                    disk.remove(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _say(self, message: str) -> None:
        """A line of the platform's own, in a stream beside those of the hosts."""
        self._platform.logs.put(logs.PROCESSING_JOBS, f"{self._name}/platform", [f"[local_sagemaker] {message}"])
