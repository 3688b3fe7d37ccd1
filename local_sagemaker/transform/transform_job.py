"""One batch transform job: model servers for its length, and every object of the input carried through one of them.

Nothing is kept of a job in progress: after a restart of this program it starts again from the first object, and writes
the same outputs again. InstanceCount is as many model servers as there are cores at most, each with its own
MaxConcurrentTransforms; an object is answered by one of them. Like a training job, it waits for a place among the jobs
that run at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import json
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from local_sagemaker import s3
from local_sagemaker.background import log
from local_sagemaker.failures import JobFailedError
from local_sagemaker.hosting import model_server
from local_sagemaker.hosting.model_server import ModelServer
from local_sagemaker.hosting.served_model import ServedModel
from local_sagemaker.jobs import slot
from local_sagemaker.jobs import status as job_status
from local_sagemaker.platform import Platform
from local_sagemaker.s3 import Object
from local_sagemaker.sandbox import cores, disk, packages
from local_sagemaker.state import logs
from local_sagemaker.state.store import Record
from local_sagemaker.transform import object_transform
from local_sagemaker.transform.data_processing import DataProcessing
from local_sagemaker.transform.model_client import ModelClient, Parameters
from local_sagemaker.transform.object_transform import Budget, Instance, Rejected

KIND = "transform-job"

_POLL_S = 0.2


def create(platform: Platform, request: dict[str, Any], model: ServedModel) -> Record:
    """Write the record and start the job. Raises store.AlreadyExistsError for a name that is taken."""
    name = request["TransformJobName"]
    describe = {key: value for key, value in request.items() if key != "Tags"}
    describe |= {
        "TransformJobArn": platform.settings.arn(KIND, name),
        "TransformJobStatus": "InProgress",
        "CreationTime": time.time(),
        "TransformInput": {"CompressionType": "None", "SplitType": "None", **request["TransformInput"]},
        "TransformOutput": {"AssembleWith": "None", "KmsKeyId": "", **request["TransformOutput"]},
        "DataProcessing": {
            "InputFilter": "$", "OutputFilter": "$", "JoinSource": "None", **request.get("DataProcessing", {})
        },
    }  # fmt: skip
    internal = {"tags": request.get("Tags", []), "model": dataclasses.asdict(model)}
    record = platform.store.insert(KIND, name, describe, internal)
    carry(platform, name)
    return record


def carry(platform: Platform, name: str) -> None:
    """Start the thread of a job: a new one, or one that an earlier server left unfinished."""
    platform.background.start(KIND, name, lambda stop: TransformJob(platform, name, stop).run())


def resume(platform: Platform) -> None:
    """After a restart: begin every unfinished job anew."""
    for record in platform.store.list(KIND):
        if record.status not in job_status.TERMINAL:
            carry(platform, record.name)


class TransformJob:
    """The thread's side of one job. `stop` is set by StopTransformJob and by the server's own shutdown."""

    def __init__(self, platform: Platform, name: str, stop: threading.Event) -> None:
        self._platform = platform
        self._name = name
        self._stop = stop
        record = platform.store.get(KIND, name)
        if record is None:
            raise KeyError(f"no {KIND} '{name}'")
        self._request = record.describe
        self._model = ServedModel(**record.internal["model"])
        self._created = record.created
        self._folder = platform.settings.folder(KIND, name)

    def run(self) -> None:
        if self._request["TransformJobStatus"] == "Stopping":
            self._stop.set()
        try:
            self._execute()
        except packages.StoppedError:
            self._stopped()
        except JobFailedError as error:
            self._failed(str(error))
        except Exception as error:
            log.exception("transform job '%s'", self._name)
            self._end(
                "Failed", job_status.fault_of_job(error) or f"InternalServerError: {type(error).__name__}: {error}"
            )

    def _execute(self) -> None:
        self._end_orphans()
        with slot.held(self._platform.background, self._stop) as held:
            if not held or self._stop.is_set():
                return self._stopped()
            source = self._request["TransformInput"]["DataSource"]["S3DataSource"]
            objects = self._platform.objects.objects(source["S3DataType"], source["S3Uri"], self._stop.is_set)
            if self._stop.is_set():
                return self._stopped()
            try:
                with self._servers() as servers:
                    if not self._await(servers):
                        return self._stopped()
                    self._started()
                    rejected = self._transform(servers, objects)
            finally:
                disk.remove(self._folder)
        if self._stop.is_set():
            return self._stopped()
        if rejected:
            raise JobFailedError(_reason(rejected, len(objects)))
        self._capture(objects)
        self._end("Completed")

    # -- model servers --------------------------------------------------------------------------------------------

    def _end_orphans(self) -> None:
        for folder in self._folder.glob("algo-*"):
            model_server.end_orphan(folder)
        model_server.end_orphan(self._folder)

    @contextlib.contextmanager
    def _servers(self) -> Iterator[list[ModelServer]]:
        """Started model servers, one for each instance, up to `--max-instances`."""
        resources = self._request["TransformResources"]
        limit = self._platform.settings.max_instances or self._platform.cores.total
        count = max(1, min(resources["InstanceCount"], limit))
        with self._platform.cores.share(resources["InstanceType"], count) as num_threads:
            servers = [
                ModelServer(
                    self._platform,
                    self._model,
                    self._folder / f"algo-{number}",
                    log=(logs.TRANSFORM_JOBS, self._stream(number)),
                    num_threads=num_threads,
                    nice=cores.NICE_TRANSFORM,
                    environment=self._environment(),
                    stop=self._stop,
                )
                for number in range(1, count + 1)
            ]
            if count < resources["InstanceCount"]:
                servers[0].say(f"InstanceCount {resources['InstanceCount']} runs as {count}: there are no more cores")
            try:
                for server in servers:
                    server.start()
                yield servers
            finally:
                for server in servers:
                    server.stop(self._grace_s())

    def _await(self, servers: list[ModelServer]) -> bool:
        return all(model_server.await_ping(server, model_server.STARTUP_TIMEOUT_S, self._stop) for server in servers)

    def _environment(self) -> dict[str, str]:
        """As AWS documents it for one's own inference code: what the request does not say is left out."""
        strategies = {"MultiRecord": "MULTI_RECORD", "SingleRecord": "SINGLE_RECORD"}
        said = {
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": self._request.get("MaxPayloadInMB"),
            "SAGEMAKER_BATCH_STRATEGY": strategies.get(self._request.get("BatchStrategy", "")),
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": self._request.get("MaxConcurrentTransforms") or None,
        }
        requested: dict[str, str] = self._request.get("Environment", {})
        return {
            "SAGEMAKER_BATCH": "true",
            **{name: str(value) for name, value in said.items() if value is not None},
            **requested,
        }

    # -- objects --------------------------------------------------------------------------------------------------

    def _transform(self, servers: list[ModelServer], objects: list[Object]) -> list[Rejected]:
        """Carry every object through; returns those that got no output."""
        waiting: queue.SimpleQueue[Object] = queue.SimpleQueue()
        for item in objects:
            waiting.put(item)
        rejected: list[Rejected] = []
        failures: list[Exception] = []
        with contextlib.ExitStack() as clients:
            instances = [self._instance(server, clients) for server in servers]
            threads = [
                threading.Thread(target=self._carry, args=(instance, waiting, rejected, failures), daemon=True)
                for instance in instances
                for _ in range(min(object_transform.num_threads(instance.parameters), len(objects)))
            ]
            for thread in threads:
                thread.start()
            try:
                self._watch(servers, threads, failures)
            except BaseException:
                self._stop.set()  # the objects that still wait are not begun
                raise
            finally:
                if self._stop.is_set():  # answers on their way are not wanted any more
                    for server in servers:
                        server.stop(self._grace_s())
                for thread in threads:
                    thread.join()
        return rejected

    def _watch(self, servers: list[ModelServer], threads: list[threading.Thread], failures: list[Exception]) -> None:
        """Until all is carried or the job is stopped. Raises what went wrong."""
        while any(thread.is_alive() for thread in threads) and not self._stop.is_set():
            for thread in threads:
                thread.join(_POLL_S / len(threads))
            self._check(servers, failures)
        self._check(servers, failures)

    def _check(self, servers: list[ModelServer], failures: list[Exception]) -> None:
        for server in servers:
            server.follow()
            if not server.running() and not self._stop.is_set():
                raise JobFailedError(f"AlgorithmError: {server.end_reason()}{server.last_output()}")
        if failures:
            raise failures[0]

    def _carry(
        self,
        instance: Instance,
        waiting: queue.SimpleQueue[Object],
        rejected: list[Rejected],
        failures: list[Exception],
    ) -> None:
        """One thread's work: an object after the other, until there are none or the job ends."""
        with contextlib.suppress(queue.Empty):
            while not self._stop.is_set() and not failures:
                try:
                    problem = instance.transform(waiting.get_nowait())
                except queue.Empty:
                    raise
                except Exception as error:
                    failures.append(error)
                    return
                if problem and not self._stop.is_set():
                    rejected.append(problem)
                    self._say_rejected(problem)

    def _instance(self, server: ModelServer, clients: contextlib.ExitStack) -> Instance:
        client = ModelClient(f"http://127.0.0.1:{server.port}", self._request, self._stop)
        clients.callback(client.close)
        parameters = Parameters.of(self._request, client.offered())
        client.open(parameters.max_concurrent, parameters.max_bytes)
        return Instance(
            objects=self._platform.objects,
            client=client,
            request=self._request,
            parameters=parameters,
            processing=DataProcessing.of(self._request, self._created),
            budget=Budget.of(parameters),
            folder=self._folder,
            stop=self._stop,
        )

    def _say_rejected(self, problem: Rejected) -> None:
        """One line per bad object in the job's data log, as SageMaker writes it."""
        line = f"{problem.uri}: {problem.reason}"
        self._platform.logs.put(logs.TRANSFORM_JOBS, f"{self._stream(1)}/data-log", [line])

    def _capture(self, objects: list[Object]) -> None:
        """DataCaptureConfig: manifests of what was read and written, below the hour in which the job was created."""
        config = self._request.get("DataCaptureConfig")
        if not config:
            return
        hour = f"{datetime.datetime.fromtimestamp(self._created, datetime.UTC):%Y/%m/%d/%H}"
        output = self._request["TransformOutput"]["S3OutputPath"].rstrip("/") + "/"
        manifests = {
            "input": [{"prefix": f"s3://{objects[0].bucket}/"}, *(item.key for item in objects)],
            "output": [
                {"prefix": output},
                *(object_transform.output_key(item, self._request) for item in objects),
            ],
        }
        for kind, manifest in manifests.items():
            uri = s3.join(config["DestinationS3Uri"], kind, hour, f"{self._name}.jsonl")
            self._platform.objects.write_file(io.BytesIO(json.dumps(manifest).encode()), uri, "application/json")

    def _stream(self, number: int) -> str:
        return f"{self._name}/algo-{number}-{int(self._created)}"

    def _grace_s(self) -> float:
        """Time for the model server to end; whatever it still does, nobody waits for the answer."""
        return 0.0 if self._platform.background.shutdown.is_set() else 5.0

    # -- statuses -------------------------------------------------------------------------------------------------

    def _started(self) -> None:
        def change(record: Record) -> None:
            record.describe.setdefault("TransformStartTime", time.time())

        self._platform.store.update(KIND, self._name, change)

    def _stopped(self) -> None:
        """Stopped by StopTransformJob; at the server's own shutdown the record stays, for the next server."""
        if not self._platform.background.shutdown.is_set():
            self._end("Stopped")

    def _failed(self, reason: str) -> None:
        """What goes wrong while a job is being stopped is no failure of it."""
        record = self._platform.store.get(KIND, self._name)
        stopping = record is not None and record.status == "Stopping"
        self._end("Stopped") if stopping else self._end("Failed", reason)

    def _end(self, status: str, reason: str | None = None) -> None:
        if self._platform.background.shutdown.is_set():
            return

        def change(record: Record) -> None:
            record.describe["TransformJobStatus"] = status
            record.describe["TransformEndTime"] = time.time()
            if reason:
                record.describe["FailureReason"] = job_status.told(reason)

        if reason:
            self._platform.logs.put(logs.TRANSFORM_JOBS, self._stream(1), [f"[local_sagemaker] {reason}"])
        self._platform.store.update(KIND, self._name, change)


def _reason(rejected: list[Rejected], total: int) -> str:
    code = "AlgorithmError" if any(problem.by_server for problem in rejected) else "ClientError"
    first = rejected[0]
    return (
        f"{code}: See job logs for more information. {len(rejected)} of {total} objects got no answer, "
        f"the first one {first.uri}: {first.reason}"
    )
