"""One training job from CreateTrainingJob to its last status, and the thread that carries it there."""

from __future__ import annotations

import contextlib
import glob
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local_sagemaker import s3
from local_sagemaker.jobs import life, opt_ml, rules
from local_sagemaker.jobs.life import JobFailedError
from local_sagemaker.jobs.metrics import MetricPatterns, final_metrics
from local_sagemaker.jobs.profiler import SystemProfiler
from local_sagemaker.platform import Platform, log
from local_sagemaker.sandbox import cores
from local_sagemaker.sandbox.environment import process_environment, role_environment
from local_sagemaker.sandbox.process import JobProcess, OutputTail, output_path
from local_sagemaker.state import logs
from local_sagemaker.state.store import Record

KIND = "training-job"
END_MARKER = "training_job_end.ts"

_POLL_S = 0.1
_SYNC_S = 5.0


def create(
    platform: Platform,
    request: dict[str, Any],
    *,
    tuning_job_arn: str | None = None,
    tuned: dict[str, str] | None = None,
    parallel: int = 1,
) -> Record:
    """Write the record and start the job. Raises store.AlreadyExistsError for a name that is taken.

    `tuned` are the hyperparameters a tuning job chose for it; `parallel` is how many jobs of the same kind are expected
    beside it, itself included (MaxParallelTrainingJobs).
    """
    now = time.time()
    name = request["TrainingJobName"]
    describe: dict[str, Any] = {key: value for key, value in request.items() if key != "Tags"}
    describe |= {
        "TrainingJobArn": platform.settings.arn(KIND, name),
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "ModelArtifacts": {"S3ModelArtifacts": _artifact(request, "model.tar.gz")},
        "CreationTime": now,
        "LastModifiedTime": now,
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
        "EnableInterContainerTrafficEncryption": request.get("EnableInterContainerTrafficEncryption", False),
        "EnableManagedSpotTraining": request.get("EnableManagedSpotTraining", False),
    }
    if "ProfilerConfig" in request:
        disabled = request["ProfilerConfig"].get("DisableProfiler", False)
        describe["ProfilingStatus"] = "Disabled" if disabled else "Enabled"
    if tuning_job_arn:
        describe["TuningJobArn"] = tuning_job_arn
    for configuration, statuses in rules.MEMBERS:
        if request.get(configuration):
            describe[statuses] = rules.initial_statuses(platform.settings, name, request[configuration], now)
    for channel in describe.get("InputDataConfig", []):
        channel.setdefault("CompressionType", "None")
        channel.setdefault("RecordWrapperType", "None")
    describe["OutputDataConfig"] = {"KmsKeyId": "", "CompressionType": "GZIP", **describe["OutputDataConfig"]}
    life.enter(describe, "Starting", now)
    internal = {"tags": request.get("Tags", []), "parallel": parallel, "metrics": {}, "tuned": tuned or {}}
    record = platform.store.insert(KIND, name, describe, internal, parent=tuning_job_arn)
    carry(platform, name)
    return record


def carry(platform: Platform, name: str) -> None:
    """Start the thread of a job: a new one, or one that an earlier server left unfinished."""
    platform.background.start(KIND, name, lambda stop: TrainingJob(platform, name, stop).run())


def resume(platform: Platform) -> None:
    """After a restart: follow, finish or fail every job that an earlier server left."""
    for record in platform.store.list(KIND):
        if record.describe["TrainingJobStatus"] not in life.TERMINAL or rules.pending(record.describe):
            carry(platform, record.name)


def stop(platform: Platform, name: str) -> None:
    """Ask for a stop; a job that has ended stays as it is."""

    def change(record: Record) -> None:
        life.stop_requested(record.describe, time.time())

    platform.store.update(KIND, name, change)
    platform.background.stop(KIND, name)


class TrainingJob:
    """The thread's side of one job. `stop` is set by StopTrainingJob and by the server's own shutdown."""

    def __init__(self, platform: Platform, name: str, stop: threading.Event) -> None:
        self._platform = platform
        self._name = name
        self._stop = stop
        record = platform.store.get(KIND, name)
        if record is None:
            raise KeyError(f"no {KIND} '{name}'")
        self._request = record.describe
        self._parallel = record.internal.get("parallel", 1)
        self._stream = f"{name}/{opt_ml.HOST}-{int(record.created)}"
        self._folder = platform.folder(KIND, name)
        self._process_folder = self._folder / "process"
        self._opt_ml = opt_ml.OptMl(self._folder / "opt/ml")
        self._profile = self._folder / "profiler-output"
        self._series: dict[str, list[list[float]]] = {}
        self._last_lines: list[str] = []
        try:
            self._patterns = MetricPatterns(self._request["AlgorithmSpecification"].get("MetricDefinitions", []))
        except Exception as error:  # re.error: refused by CreateTrainingJob, so only a foreign database has one
            raise JobFailedError(f"ClientError: metric definitions: {error}") from error

    def run(self) -> None:
        if self._request["TrainingJobStatus"] in {"InProgress", "Stopping"}:
            if self._request["TrainingJobStatus"] == "Stopping":
                self._stop.set()
            try:
                self._execute()
            except JobFailedError as error:
                self._end("Failed", str(error))
            except Exception as error:
                log.exception("training job '%s'", self._name)
                self._end("Failed", f"InternalServerError: {type(error).__name__}: {error}")
        if not self._platform.background.shutdown.is_set():
            self._evaluate_rules()
        if not self._platform.background.shutdown.is_set():  # else the next server evaluates the rules
            self._clean()

    def _execute(self) -> None:
        process = JobProcess.adopt(self._process_folder)
        with self._slot(), self._platform.cores.share(self._instance_type, self._parallel) as threads:
            if process is None and self._process_folder.exists():
                # It ran under an earlier server and left no exit code: killed with it, or by the machine going down.
                raise JobFailedError("InternalServerError: the job's process ended while the local SageMaker was down")
            if self._stop.is_set() and process is None:
                return self._stopped()
            if process is None:
                process = self._start(threads)
                self._enter("Training")
            code, limit = self._follow(process)
        if self._platform.background.shutdown.is_set():
            raise JobFailedError("InternalServerError: the local SageMaker was shut down while the job was running")
        if limit == "MaxLogBytes":
            raise JobFailedError(
                f"ClientError: the job printed more than {self._platform.settings.max_log_bytes} bytes; print less"
            )
        stopped = limit is not None or self._stop.is_set()
        if code != 0 and not stopped:
            failure = _read(self._opt_ml.failure)
            raise JobFailedError(life.failure_reason(code, failure, self._last_lines, self._command()))
        self._enter("Uploading")
        self._upload()
        if stopped:
            return self._stopped(limit)
        self._end("Completed")

    # -- before ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        """Hold one of the places for running jobs; Pending until there is one."""
        slots = self._platform.slots
        if not slots.acquire(blocking=False):
            self._enter("Pending")
            while not slots.acquire(timeout=0.2):
                if self._stop.is_set():
                    yield  # the body sees the stop and returns
                    return
        try:
            yield
        finally:
            slots.release()

    @property
    def _instance_type(self) -> str:
        return str(self._request["ResourceConfig"]["InstanceType"])

    @property
    def _interpreter(self) -> str:
        uri = self._request["AlgorithmSpecification"].get("TrainingImage", "")
        image = self._platform.images.find(uri)
        if image is None:
            raise JobFailedError(f"ClientError: {self._platform.images.explain(uri)}")
        return image.interpreter

    def _command(self) -> list[str]:
        return opt_ml.command(self._interpreter, self._request, self._opt_ml.code)

    def _start(self, threads: int) -> JobProcess:
        self._enter("Downloading")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._opt_ml.make()
        self._fetch_code()
        for channel in self._request.get("InputDataConfig", []):
            objects = self._platform.objects.objects(*s3.data_source(channel))
            self._platform.objects.download(objects, self._opt_ml.channel(channel["ChannelName"]))
        if checkpoints := self._request.get("CheckpointConfig"):
            with contextlib.suppress(JobFailedError):  # nothing there yet: the first run of this classifier
                objects = self._platform.objects.objects("S3Prefix", checkpoints["S3Uri"])
                self._platform.objects.download(objects, self._opt_ml.checkpoints)
        self._opt_ml.write_config(self._request)
        if (self._opt_ml.code / "requirements.txt").exists():
            self._say(f"requirements.txt is not installed here: {self._interpreter} must already satisfy it")
        return JobProcess.start(
            self._command(),
            environment=self._environment(threads),
            cwd=self._opt_ml.code,
            folder=self._process_folder,
            nice=cores.NICE_TRAINING,
        )

    def _fetch_code(self) -> None:
        decoded = opt_ml.decode(self._request.get("HyperParameters", {}))
        uri = str(decoded.get("sagemaker_submit_directory", ""))
        if uri.startswith("s3://"):
            archive = self._folder / "sourcedir.tar.gz"
            (source,) = self._platform.objects.objects("S3Prefix", uri)[:1]
            self._platform.objects.download([s3.Object(source.bucket, source.key, archive.name)], self._folder)
            opt_ml.unpack(archive, self._opt_ml.code, uri)

    def _environment(self, threads: int) -> dict[str, str]:
        isolated = bool(self._request.get("EnableNetworkIsolation"))
        requested: dict[str, str] = self._request.get("Environment", {})
        return {
            **process_environment(self._interpreter, self._folder, threads),
            **role_environment(self._platform.settings, network_isolation=isolated),
            "PYTHONPATH": str(self._opt_ml.code),
            "TRAINING_JOB_ARN": self._request["TrainingJobArn"],
            **opt_ml.environment(self._opt_ml, self._request, self._name, threads, len(_gpus())),
            **requested,
        }

    # -- while it runs --------------------------------------------------------------------------------------------

    def _follow(self, process: JobProcess) -> tuple[int, str | None]:
        """Carry the process to its end; returns its exit code and the limit that ended it, if one did."""
        tail = OutputTail(output_path(self._process_folder))
        # An adopted job's earlier lines are in the logs already; its metrics are read again from the start.
        known = self._platform.logs.count(logs.TRAINING_JOBS, self._stream)
        started = self._training_start()
        deadline = started + self._request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 86400)
        mirrors = self._mirrors()
        next_sync = time.monotonic() + _SYNC_S
        grace_s = 0.0 if self._platform.background.shutdown.is_set() else self._platform.settings.stop_grace_s
        limit = None
        with self._profiling():
            code = None
            while code is None:
                code = process.wait(_POLL_S)
                known = self._read(tail, known, final=code is not None)
                if code is None and tail.offset > self._platform.settings.max_log_bytes:
                    limit, code = "MaxLogBytes", process.stop(0.0)
                elif code is None and time.time() > deadline:
                    limit, code = "MaxRuntimeExceeded", process.stop(grace_s)
                elif code is None and self._stop.is_set():
                    code = process.stop(0.0 if self._platform.background.shutdown.is_set() else grace_s)
                if time.monotonic() > next_sync:
                    for mirror in mirrors:
                        mirror.sync(settled_s=1.0)
                    next_sync = time.monotonic() + _SYNC_S
            process.kill()  # whatever the script left running
            self._read(tail, known, final=True)
        for folder in (self._opt_ml.tensors, self._profile / "system", self._profile / "framework"):
            if folder.exists() or (folder.parent == self._profile and self._profile.exists()):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / END_MARKER).touch()
        for mirror in mirrors:
            mirror.sync()
        return code, limit

    def _training_start(self) -> float:
        record = self._platform.store.get(KIND, self._name)
        return float(record.describe.get("TrainingStartTime", time.time())) if record else time.time()

    @contextlib.contextmanager
    def _profiling(self) -> Iterator[None]:
        config = self._request.get("ProfilerConfig")
        if not config or config.get("DisableProfiler"):
            yield
            return
        profiler = SystemProfiler(self._profile, config.get("ProfilingIntervalInMilliseconds", 500))
        profiler.start()
        try:
            yield
        finally:
            profiler.stop()

    def _mirrors(self) -> list[s3.Mirror]:
        objects, pairs = self._platform.objects, []
        if hook := self._request.get("DebugHookConfig"):
            pairs.append((self._opt_ml.tensors, s3.join(hook["S3OutputPath"], self._name, "debug-output")))
        if profiler := self._request.get("ProfilerConfig"):
            target = profiler.get("S3OutputPath") or self._request["OutputDataConfig"]["S3OutputPath"]
            pairs.append((self._profile, s3.join(target, self._name, "profiler-output")))
        if checkpoints := self._request.get("CheckpointConfig"):
            pairs.append((self._opt_ml.checkpoints, checkpoints["S3Uri"]))
        return [s3.Mirror(objects, folder, uri) for folder, uri in pairs]

    def _read(self, tail: OutputTail, known: int, *, final: bool) -> int:
        """Take new lines to the logs and their metrics to the record; returns the lines left to skip."""
        lines = tail.lines(final=final)
        if not lines:
            return known
        self._platform.logs.put(logs.TRAINING_JOBS, self._stream, lines[known:])
        self._last_lines = (self._last_lines + [line for line in lines if line.strip()])[-20:]
        found = [pair for line in lines for pair in self._patterns.find(line)]
        for name, value in found:
            self._series.setdefault(name, []).append([time.time(), value])
        if found:
            self._platform.store.update(KIND, self._name, self._set_metrics)
        return max(0, known - len(lines))

    def _set_metrics(self, record: Record) -> None:
        record.internal["metrics"] = self._series
        record.describe["FinalMetricDataList"] = final_metrics(self._series)

    # -- after ----------------------------------------------------------------------------------------------------

    def _upload(self) -> None:
        for folder, name in ((self._opt_ml.model, "model.tar.gz"), (self._opt_ml.output_data, "output.tar.gz")):
            if name == "model.tar.gz" or any(folder.iterdir()):
                archive = self._folder / name
                opt_ml.pack(folder, archive)
                self._platform.objects.upload_file(archive, _artifact(self._request, name))

    def _evaluate_rules(self) -> None:
        try:
            rules.evaluate(self._platform, self._name, self._opt_ml.tensors, self._profile)
        except Exception:
            log.exception("rules of training job '%s'", self._name)

    def _clean(self) -> None:
        """Everything is in S3 now; the sandbox would only fill the disk. The printed output stays."""
        for path in (self._folder / "opt", self._folder / "tmp", *self._folder.glob("*.tar.gz")):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    # -- statuses -------------------------------------------------------------------------------------------------

    def _enter(self, secondary: str) -> None:
        def change(record: Record) -> None:
            if record.describe["SecondaryStatus"] != "Stopping" or secondary == "Uploading":
                life.enter(record.describe, secondary, time.time())

        self._platform.store.update(KIND, self._name, change)

    def _end(self, status: str, reason: str | None = None, secondary: str | None = None) -> None:
        if reason:
            self._say(reason)
        self._platform.store.update(
            KIND, self._name, lambda record: life.finish(record.describe, status, time.time(), reason, secondary)
        )

    def _stopped(self, limit: str | None = None) -> None:
        self._end("Stopped", secondary=limit)

    def _say(self, message: str) -> None:
        """A line of the platform's own, in a stream beside the script's."""
        self._platform.logs.put(logs.TRAINING_JOBS, f"{self._name}/platform", [f"[local_sagemaker] {message}"])


def _artifact(request: dict[str, Any], name: str) -> str:
    return s3.join(request["OutputDataConfig"]["S3OutputPath"], request["TrainingJobName"], "output", name)


def _gpus() -> list[str]:
    return glob.glob("/proc/driver/nvidia/gpus/*")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
