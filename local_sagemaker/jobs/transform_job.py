"""One batch transform job: a model server for the length of the job, each object of the input sent to it once.

Covered is what images need, SplitType None: one request per object. Nothing is kept of a job in progress: after a
restart of this program it starts again from the first object, and writes the same outputs again.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import time
from typing import Any

import botocore.exceptions
import httpx

from local_sagemaker import s3
from local_sagemaker.hosting import serving
from local_sagemaker.hosting.serving import ModelServer, ServedModel
from local_sagemaker.jobs import life
from local_sagemaker.jobs.life import JobFailedError
from local_sagemaker.jobs.opt_ml import HOST
from local_sagemaker.platform import Platform, log
from local_sagemaker.s3 import Object
from local_sagemaker.sandbox import cores
from local_sagemaker.state import logs
from local_sagemaker.state.store import Record

KIND = "transform-job"

DEFAULT_PAYLOAD_MB = 6
"""SageMaker's own default of MaxPayloadInMB."""

_DEFAULT_TIMEOUT_S = 600
_DEFAULT_RETRIES = 3
_RETRY_PAUSE_S = 0.2

# Objects are read and written beside the requests, so that a job with one request at a time does not wait for S3.
_TRANSFER_THREADS = 8

_REASON_LIMIT = 1024


def create(platform: Platform, request: dict[str, Any], model: ServedModel) -> Record:
    """Write the record and start the job. Raises store.AlreadyExistsError for a name that is taken."""
    name = request["TransformJobName"]
    describe = {key: value for key, value in request.items() if key != "Tags"}
    describe |= {
        "TransformJobArn": platform.settings.arn(KIND, name),
        "TransformJobStatus": "InProgress",
        "CreationTime": time.time(),
    }
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
        if record.status not in life.TERMINAL:
            carry(platform, record.name)


def stop(platform: Platform, name: str) -> None:
    """Ask for a stop; a job that has ended stays as it is."""

    def change(record: Record) -> None:
        if record.status == "InProgress":
            record.describe["TransformJobStatus"] = "Stopping"

    platform.store.update(KIND, name, change)
    platform.background.stop(KIND, name)


def output_key(item: Object, request: dict[str, Any]) -> str:
    """Where the answer for an object lies below S3OutputPath.

    For a prefix, its key without the prefix's directory part: `…/images/` and `…/images/a/1.png` give `a/1.png.out`,
    `…/img` and `…/img/2.png` give `img/2.png.out`. For a manifest, its entry.
    """
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    if source["S3DataType"] == "ManifestFile":
        return f"{item.relative}.out"
    _, prefix = s3.split_uri(source["S3Uri"])
    directory = prefix[: prefix.rfind("/") + 1]
    return f"{item.key.removeprefix(directory)}.out"


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """An object that got no answer."""

    uri: str
    reason: str
    by_server: bool
    """The model server failed (5xx, no answer in time), rather than refused (4xx) or was never asked."""


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
        self._stream = f"{name}/{HOST}-{int(record.created)}"
        client: dict[str, int] = self._request.get("ModelClientConfig", {})
        self._timeout_s = client.get("InvocationsTimeoutInSeconds", _DEFAULT_TIMEOUT_S)
        self._attempts = 1 + client.get("InvocationsMaxRetries", _DEFAULT_RETRIES)
        self._concurrency = self._request.get("MaxConcurrentTransforms") or 1
        self._max_bytes = self._request.get("MaxPayloadInMB", DEFAULT_PAYLOAD_MB) * 2**20
        self._turns = threading.BoundedSemaphore(self._concurrency)

    def run(self) -> None:
        if self._request["TransformJobStatus"] == "Stopping":
            self._stop.set()
        try:
            self._execute()
        except JobFailedError as error:
            self._end("Failed", str(error))
        except Exception as error:
            log.exception("transform job '%s'", self._name)
            self._end("Failed", f"InternalServerError: {type(error).__name__}: {error}")

    def _execute(self) -> None:
        folder = self._platform.folder(KIND, self._name)
        serving.end_orphan(folder)
        if self._stop.is_set():
            return self._stopped()
        source = self._request["TransformInput"]["DataSource"]["S3DataSource"]
        objects = self._platform.objects.objects(source["S3DataType"], source["S3Uri"])
        instance_type = self._request["TransformResources"]["InstanceType"]
        with self._platform.cores.share(instance_type) as num_threads:
            server = ModelServer(
                self._platform,
                self._model,
                folder,
                log=(logs.TRANSFORM_JOBS, self._stream),
                num_threads=num_threads,
                nice=cores.NICE_TRANSFORM,
                environment=self._environment(),
            )
            try:
                server.start()
                if not serving.await_ping(server, serving.STARTUP_TIMEOUT_S, self._stop):
                    return self._stopped()
                self._started()
                rejected = self._transform(server, objects)
            finally:
                server.stop(self._grace_s())
        if self._stop.is_set():
            return self._stopped()
        if rejected:
            raise JobFailedError(_reason(rejected, len(objects)))
        self._end("Completed")

    def _environment(self) -> dict[str, str]:
        strategy = "MULTI_RECORD" if self._request.get("BatchStrategy") == "MultiRecord" else "SINGLE_RECORD"
        environment: dict[str, str] = {
            "SAGEMAKER_BATCH": "true",
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(self._request.get("MaxPayloadInMB", DEFAULT_PAYLOAD_MB)),
            "SAGEMAKER_BATCH_STRATEGY": strategy,
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": str(self._concurrency),
        }
        requested: dict[str, str] = self._request.get("Environment", {})
        return environment | requested

    def _transform(self, server: ModelServer, objects: list[Object]) -> list[Rejected]:
        """Send every object and write every answer; returns those that got none."""
        rejected = []
        url = f"http://127.0.0.1:{server.port}/invocations"
        timeout = httpx.Timeout(self._timeout_s)
        limits = httpx.Limits(keepalive_expiry=2.0)
        with (
            httpx.Client(timeout=timeout, limits=limits, trust_env=False) as client,
            concurrent.futures.ThreadPoolExecutor(max(_TRANSFER_THREADS, 2 * self._concurrency)) as pool,
        ):
            waiting = {pool.submit(self._carry_over, client, url, item) for item in objects}
            try:
                while waiting:
                    done, waiting = concurrent.futures.wait(waiting, 0.2)
                    rejected += [problem for future in done if (problem := future.result())]
                    server.follow()
                    if self._stop.is_set():
                        server.stop(self._grace_s())  # answers on their way are not wanted any more
                    elif not server.running():
                        raise JobFailedError(f"AlgorithmError: {server.end_reason()}{server.last_output()}")
            except BaseException:
                self._stop.set()  # the objects still waiting for a thread are not begun
                server.stop(self._grace_s())
                raise
        return rejected

    def _carry_over(self, client: httpx.Client, url: str, item: Object) -> Rejected | None:
        """Read one object, have it answered, write the answer; returns the problem when there is one."""
        if self._stop.is_set():
            return None
        try:
            body = self._platform.objects.read(item.uri)
        except botocore.exceptions.ClientError as error:
            return self._reject(item, f"it cannot be read: {error}", by_server=False)
        if self._max_bytes and len(body) > self._max_bytes:
            limit = f"MaxPayloadInMB ({self._max_bytes // 2**20})"
            return self._reject(item, f"413: its {len(body)} bytes are over {limit}", by_server=False)
        answer = self._ask(client, url, body)
        if isinstance(answer, str):
            return self._reject(item, answer, by_server=True)
        if answer.status_code >= 300:
            text = f"{answer.status_code}: {answer.text[:500]}"
            return self._reject(item, text, by_server=answer.status_code >= 500)
        content = answer.content
        if self._request["TransformOutput"].get("AssembleWith") == "Line":
            content += b"\n"
        uri = s3.join(self._request["TransformOutput"]["S3OutputPath"], output_key(item, self._request))
        try:
            self._platform.objects.write(uri, content, answer.headers.get("content-type", "application/octet-stream"))
        except botocore.exceptions.ClientError as error:
            raise JobFailedError(f"ClientError: Data upload failed: {uri}: {error}") from error
        return None

    def _ask(self, client: httpx.Client, url: str, body: bytes) -> httpx.Response | str:
        """The model server's answer, or why there is none; failures (not refusals) are tried again."""
        headers = {}
        if content_type := self._request["TransformInput"].get("ContentType"):
            headers["Content-Type"] = content_type
        if accept := self._request["TransformOutput"].get("Accept"):
            headers["Accept"] = accept
        answer: httpx.Response | str = "the job was stopped"
        for attempt in range(self._attempts):
            self._stop.wait(_RETRY_PAUSE_S if attempt else 0)
            with self._turns:
                if self._stop.is_set():
                    break
                try:
                    answer = client.post(url, content=body, headers=headers)
                except httpx.TimeoutException:
                    answer = f"no answer within {self._timeout_s} s"
                except httpx.TransportError as error:
                    answer = f"no answer: {error}"
            if isinstance(answer, httpx.Response) and answer.status_code < 500:
                break
        return answer

    def _reject(self, item: Object, reason: str, *, by_server: bool) -> Rejected:
        """One line per bad object in the job's data log, as SageMaker writes it."""
        self._platform.logs.put(logs.TRANSFORM_JOBS, f"{self._stream}/data-log", [f"{item.uri}: {reason}"])
        return Rejected(item.uri, reason, by_server)

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

    def _end(self, status: str, reason: str | None = None) -> None:
        if self._platform.background.shutdown.is_set():
            return

        def change(record: Record) -> None:
            record.describe["TransformJobStatus"] = status
            record.describe["TransformEndTime"] = time.time()
            if reason:
                record.describe["FailureReason"] = reason[:_REASON_LIMIT]

        if reason:
            self._platform.logs.put(logs.TRANSFORM_JOBS, self._stream, [f"[local_sagemaker] {reason}"])
        self._platform.store.update(KIND, self._name, change)


def _reason(rejected: list[Rejected], total: int) -> str:
    code = "AlgorithmError" if any(problem.by_server for problem in rejected) else "ClientError"
    first = rejected[0]
    return (
        f"{code}: See job logs for more information. {len(rejected)} of {total} objects got no answer, "
        f"the first one {first.uri}: {first.reason}"
    )
