"""The thread that carries one training job from its creation, or from where an earlier server left it, to its end.

A job may take several attempts: a managed spot job that was interrupted starts again, and so does, as its RetryStrategy
allows, one that ended through an internal error. Every attempt has fresh folders, its checkpoints, and a log stream of
its own. All that must outlive this process is in the record, so that the next server carries on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from local_sagemaker.background import log
from local_sagemaker.failures import InternalFailureError, JobFailedError
from local_sagemaker.jobs import artifacts, cluster, entrypoint, live_copies, opt_ml, training_record
from local_sagemaker.jobs import status as job_status
from local_sagemaker.jobs.attempt import Attempt, End
from local_sagemaker.jobs.checkpoints import Checkpoints
from local_sagemaker.jobs.host_process import HostProcess
from local_sagemaker.jobs.live_copies import LiveCopies
from local_sagemaker.jobs.metrics import MetricPatterns, MetricSeries
from local_sagemaker.jobs.preparation import Preparation
from local_sagemaker.jobs.profiler import Profiling
from local_sagemaker.jobs.rule_evaluation import RuleEvaluation
from local_sagemaker.jobs.training_record import END_MARKER, KIND, TrainingRecord
from local_sagemaker.platform import Platform
from local_sagemaker.sandbox import disk
from local_sagemaker.sandbox.disk import Quota
from local_sagemaker.state import logs
from local_sagemaker.state.metrics import Metric
from local_sagemaker.state.statistics import Statistics, is_storable
from local_sagemaker.state.store import Record

#: CloudWatch's namespace for what training jobs measure.
METRICS_NAMESPACE = "/aws/sagemaker/TrainingJobs"

# How often a run looks at its record, for a limit, an interruption or an update.
_LOOK_S = 0.5

# What a job gets to save a checkpoint when the server itself is told to stop.
_SHUTDOWN_GRACE_S = 3.0

_DOWN = "InternalServerError: the job's process ended while the local SageMaker was down"
_SHUT_DOWN = "InternalServerError: the local SageMaker was shut down while the job was running"

# SDK v3's drivers let the hosts of a job meet at algo-1:7777, which here is the same port for every job: such jobs wait
# for each other.
_fixed_port = threading.BoundedSemaphore(1)


class TrainingRun:
    """`stop` is set by StopTrainingJob and by the server's own shutdown."""

    def __init__(self, platform: Platform, name: str, stop: threading.Event) -> None:
        self._platform = platform
        self._name = name
        self._stop = stop
        self._folder = platform.settings.folder(KIND, name)
        self._record = TrainingRecord(platform.store, platform.logs, name)
        self._request = self._record.read().describe
        volume_bytes = self._request["ResourceConfig"].get("VolumeSizeInGB", 0) * 2**30  # of each host
        self._quota = Quota(self._folder, volume_bytes * len(cluster.hosts(self._request)) or None)
        self._profiling = Profiling()
        self._series = MetricSeries()
        self._next_look = 0.0
        self._copies: LiveCopies | None = None
        self._profile_is_copied = False
        self._shutdown_noted = False
        self._adopted = False
        self._hosts: list[HostProcess] = []
        self._rules: RuleEvaluation | None = None
        definitions = self._request["AlgorithmSpecification"].get("MetricDefinitions", [])
        self._patterns = MetricPatterns(platform.patterns, definitions, self._record.overran)

    def run(self) -> None:
        if self._request["TrainingJobStatus"] not in job_status.TERMINAL:
            if self._request["TrainingJobStatus"] == "Stopping":
                self._stop.set()
            while self._guarded(self._attempt) and not self._shutting_down:
                pass
        self._finish_rules()
        if not self._shutting_down:  # else the next server evaluates the rules
            self._clean()

    @property
    def _shutting_down(self) -> bool:
        return self._platform.background.shutdown.is_set()

    def _guarded(self, attempt: Callable[[], bool]) -> bool:
        """One attempt; whether another one is to follow. Every error becomes the end of the attempt or the job."""
        try:
            return attempt()
        except InternalFailureError as error:
            return self._begin_again(str(error))
        except JobFailedError as error:
            self._record.end("Failed", str(error))
        except Exception as error:
            log.exception("training job '%s'", self._name)
            if reason := job_status.fault_of_job(error):
                self._record.end("Failed", reason)
                return False
            return self._begin_again(f"InternalServerError: {type(error).__name__}: {error}")
        return False

    def _attempt(self) -> bool:
        if self._rules:
            self._rules.cut_off()
        record = self._record.read()
        self._request = record.describe
        self._hosts = self._host_processes(record)
        self._rules = self._evaluation(record, self._hosts)
        self._series = MetricSeries(record.internal.get("attempt", {}).get("metrics_before"))
        checkpoints = self._checkpoints()
        folders = [process.opt_ml for process in self._hosts]
        copies = LiveCopies(self._name, live_copies.of(self._platform.objects, self._request, folders, checkpoints))
        self._copies, self._profile_is_copied = copies, False
        self._copy_profile(self._request)
        adopted = self._adopted = self._adopt(record, copies)
        attempt = Attempt(self._hosts, self._collect)
        with (
            self._place(wait=not adopted) as end,
            self._platform.cores.share(self._instance_type, record.internal.get("parallel", 1)) as num_threads,
        ):
            if not adopted and not end:
                end = self._start(checkpoints, max(1, num_threads // len(self._hosts)))
            if end:
                return self._judge(end, attempt)
            copies.start()
            try:
                with self._profiling:
                    end = attempt.follow(self._wanted)
            finally:
                copies.stop()
                self._series.write(self._record.measured, now=True)
        self._finish_copies(copies, end, attempt)
        return self._judge(end, attempt)

    # -- before ---------------------------------------------------------------------------------------------------

    def _host_processes(self, record: Record) -> list[HostProcess]:
        epoch = training_record.epoch(record)
        self._attempt_folder = self._folder / str(epoch)
        shown = opt_ml.MOUNT if self._platform.isolation.mounts else None
        found = []
        for host in cluster.hosts(self._request):
            stream = f"{self._name}/{host.name}-{epoch}"
            known = self._platform.logs.count(logs.TRAINING_JOBS, stream)
            found.append(HostProcess(self._attempt_folder, host, shown, stream, known))
        return found

    def _checkpoints(self) -> Checkpoints | None:
        config = self._request.get("CheckpointConfig")
        if not config:
            return None
        folders = [process.opt_ml.checkpoints(self._request) for process in self._hosts]
        memory = self._attempt_folder / "checkpoints.json"
        return Checkpoints(self._platform.objects, config["S3Uri"], folders, memory)

    def _adopt(self, record: Record, copies: LiveCopies) -> bool:
        """Take over what an earlier server started; False when nothing of this attempt was.

        Raises InternalFailureError when a process of it is gone and nobody knows how it ended.
        """
        started = bool(record.internal.get("attempt", {}).get("started"))
        if not started and not any(process.was_started for process in self._hosts):
            return False
        gone = [process.host.name for process in self._hosts if not process.adopt()]
        if not gone:
            if not started:
                self._record.started(record.internal.get("attempt", {}).get("command", []))
            return True
        for process in self._hosts:
            process.kill()
        if not started:  # it was cut off between the start of two hosts
            return False
        copies.finish()
        if self._record.stopping:
            return False
        raise InternalFailureError(_DOWN if len(self._hosts) == 1 else f"{_DOWN} ({', '.join(gone)})")

    @contextlib.contextmanager
    def _place(self, *, wait: bool) -> Iterator[End | None]:
        """Hold one of the places for running jobs; Pending until there is one. Yields why to end before there was.

        A job that already runs does not wait: it takes a place if one is free.
        """
        needed = [self._platform.background.slots]
        if len(self._hosts) > 1 and entrypoint.command(self._request):
            needed.append(_fixed_port)
        held: list[threading.BoundedSemaphore] = []
        end: End | None = self._wanted() if wait else None
        try:
            for place in needed:
                free = place.acquire(blocking=False)
                if wait and not free and not end:
                    self._record.enter("Pending")
                while wait and not free and not (end := end or self._wanted()):
                    free = place.acquire(timeout=0.2)
                held += [place] if free else []
            yield end
        finally:
            for place in held:
                place.release()

    def _start(self, checkpoints: Checkpoints | None, num_threads: int) -> End | None:
        """Fill the folders and start the hosts; returns why the job has to end, if it has to before that."""
        self._record.enter("Downloading")
        disk.remove(self._folder)
        self._attempt_folder.mkdir(parents=True)
        if self._request["EnableNetworkIsolation"]:
            waived = self._platform.isolation.check_network_isolation(self._platform.settings)
            if waived:
                self._record.say(waived)
        preparation = Preparation(self._platform, self._request, self._hosts, self._record.say, self._stop)
        end: End | None = None

        def stopped() -> bool:
            nonlocal end
            end = end or self._wanted()
            return end is not None

        try:
            preparation.fetch(checkpoints, stopped)
            if not stopped():
                self._record.started(preparation.start(num_threads))
        except JobFailedError:
            if not stopped():  # else it was cut off, and that is no failure
                raise
        return end

    @property
    def _instance_type(self) -> str:
        return self._hosts[0].host.instance_type

    # -- while it runs --------------------------------------------------------------------------------------------

    def _wanted(self) -> End | None:
        """Whether and why the job has to end. Cheap: asked many times a second."""
        settings = self._platform.settings
        if self._shutting_down:
            self._note_shutdown()
            return End("shutdown", min(settings.stop_grace_s, _SHUTDOWN_GRACE_S))
        if self._stop.is_set():
            return End("stopped", settings.stop_grace_s)
        if sum(process.printed_bytes for process in self._hosts) > settings.max_log_bytes:
            return End(
                "refused", 0.0, f"ClientError: the job printed more than {settings.max_log_bytes} bytes; print less"
            )
        if self._folder.exists() and (problem := self._quota.problem()):
            return End("refused", 0.0, problem)
        if time.monotonic() < self._next_look:
            return None
        self._next_look = time.monotonic() + _LOOK_S
        return self._recorded_wish(time.time())

    def _note_shutdown(self) -> None:
        """So that the next server takes for no failure how the processes end now, should this one not live to tell."""
        if not self._shutdown_noted and self._attempt_folder.exists():
            self._shutdown_noted = True
            self._record.shut_down()

    def _recorded_wish(self, now: float) -> End | None:
        """Whether the record wants the job to end: a limit it has passed, an interruption."""
        grace_s = self._platform.settings.stop_grace_s
        record = self._record.read()
        self._profiling.follow(self._hosts[0].opt_ml.profiler, record.describe.get("ProfilerConfig"))
        self._copy_profile(record.describe)
        if self._rules:
            self._rules.follow(record.describe)
        if limit := job_status.limit_exceeded(record.describe, now):
            return End("limit", grace_s, limit)
        return End("interrupted", grace_s) if record.internal.get("interrupt") else None

    def _copy_profile(self, request: dict[str, Any]) -> None:
        copies = live_copies.of_profiler(self._platform.objects, request, [one.opt_ml for one in self._hosts])
        if copies and self._copies and not self._profile_is_copied:
            self._profile_is_copied = True
            self._copies.add(copies)

    def _collect(self, process: HostProcess) -> None:
        """Take new lines to the logs and their metrics to the record."""
        lines, fresh = process.new_lines()
        if not lines:
            self._series.write(self._record.measured)
            return
        self._platform.logs.put(logs.TRAINING_JOBS, process.log_stream, fresh)
        self._measure(lines, known=len(lines) - len(fresh))
        self._series.write(self._record.measured)

    def _measure(self, lines: list[str], known: int) -> None:
        """Metrics out of the lines; CloudWatch has those of the first `known` ones already."""
        before = set(self._patterns.overran)
        try:
            found = self._patterns.find(lines)
        except OSError as error:  # it costs these values, not the job
            log.warning("metrics of training job '%s' are lost: %s", self._name, error)
            return
        new: dict[str, Statistics] = {}
        for line, name, value in found:
            self._series.add(name, time.time(), value)
            if line >= known and is_storable(value):
                new.setdefault(name, Statistics()).add(value)
        for name, statistics in new.items():
            metric = Metric.of(METRICS_NAMESPACE, name, {"TrainingJobName": self._name})
            self._platform.metrics.put_statistics(metric, statistics)
        if overran := self._patterns.overran - before:
            self._record.give_up(overran)

    # -- after ----------------------------------------------------------------------------------------------------

    def _finish_copies(self, copies: LiveCopies, end: End | None, attempt: Attempt) -> None:
        """The last copy of what is copied live. It fails no attempt that has failed for another reason."""
        if not end or end.kind not in {"interrupted", "shutdown"}:
            if self._rules:
                self._rules.no_more_tensors()
            self._mark_end()
        try:
            copies.finish()
        except Exception:
            if attempt.failed is None and (end is None or end.kind in {"stopped", "limit", "interrupted"}):
                raise
            log.warning("the last copy of training job '%s' failed", self._name, exc_info=True)

    def _mark_end(self) -> None:
        """The files by which readers of tensors and profiles know that nothing more comes."""
        for process in self._hosts:
            folders = process.opt_ml
            found = [folders.tensors(self._request)] if folders.tensors(self._request).exists() else []
            if folders.profiler.exists():
                found += [folders.profiler / "system", folders.profiler / "framework"]
            for folder in found:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / END_MARKER).touch()

    def _judge(self, end: End | None, attempt: Attempt) -> bool:
        """What an ended attempt means for the job; whether another one follows."""
        match end.kind if end else "host":
            case "shutdown" if self._record.stopping:
                return False  # the next server ends it
            case "shutdown":
                if any(process.was_started for process in self._hosts):
                    raise InternalFailureError(_SHUT_DOWN)
                return False  # nothing has begun: the next server starts it
            case "refused":
                raise JobFailedError(end.detail if end else "")
            case "interrupted" if not self._record.stopping:
                self._record.interrupted()
                return True
            case "stopped" | "interrupted":
                return self._conclude("Stopped")
            case "limit":
                return self._conclude("Stopped", end.detail if end else None)
        failed = attempt.failed
        if self._record.stopping:
            return self._conclude("Stopped")
        if end is None and (failed or self._adopted):  # a server that was killed may have told it to end
            ended_at = max(process.ended_at for process in self._hosts)
            if earlier := self._recorded_wish(ended_at):
                return self._judge(earlier, attempt)
        if failed is None:
            return self._conclude("Completed")
        attempt_record = self._record.read().internal.get("attempt", {})
        if end is None and attempt_record.get("shut_down"):
            raise InternalFailureError(_SHUT_DOWN)
        several = failed.host.name if len(self._hosts) > 1 else None
        if failed.vanished:
            raise InternalFailureError(
                f"InternalServerError: the process of {failed.host.name} is gone without an exit code: it was killed "
                "together with what it had started"
            )
        code, command = failed.exit_code or 0, attempt_record.get("command", [])
        raise JobFailedError(
            job_status.failure_reason(code, failed.failure_file(), failed.last_lines, command, several)
        )

    def _conclude(self, status: str, secondary: str | None = None) -> bool:
        """Upload what the hosts leave, if they ever ran, and end the job."""
        if any(process.was_started for process in self._hosts):
            self._record.enter("Uploading")
            folders = [process.opt_ml for process in self._hosts]
            artifacts.upload(self._platform.objects, self._request, folders, self._folder, self._record.say)
        self._record.end(status, secondary=secondary)
        return False

    def _begin_again(self, reason: str) -> bool:
        """After an internal error: another attempt if the RetryStrategy has one left, else the job has failed."""
        again = self._record.restarted(reason)
        if again:
            self._record.say(f"{reason}; it starts again")
        else:
            self._record.end("Failed", reason)
        return again

    def _evaluation(self, record: Record, hosts: list[HostProcess]) -> RuleEvaluation:
        folders = [process.opt_ml for process in hosts]
        return RuleEvaluation(self._platform, self._name, record.describe, folders, training_record.epoch(record))

    def _finish_rules(self) -> None:
        record = self._record.read()
        try:
            (self._rules or self._evaluation(record, self._host_processes(record))).finish()
        except Exception:
            log.exception("rules of training job '%s'", self._name)

    def _clean(self) -> None:
        """Everything is in S3 now; the sandbox would only fill the disk. The printed output stays."""
        for path in [*self._folder.glob("*/algo-*/*"), *self._folder.glob("*.tar.gz")]:
            if path.is_dir() and path.name != "process":
                disk.remove(path)
            elif path.is_file():
                path.unlink(missing_ok=True)
