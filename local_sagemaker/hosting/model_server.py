"""One model server: a model's artifact in a sandbox, and the program that stands in for its image serving it.

The program gets what a SageMaker container gets (model below /opt/ml/model, moved by SAGEMAKER_BASE_DIR; a port to
bind; the model's Environment) and must answer GET /ping and POST /invocations. It listens on loopback.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import threading
import time
from pathlib import Path

from local_sagemaker.failures import JobFailedError
from local_sagemaker.hosting.served_model import ServedModel
from local_sagemaker.platform import Platform
from local_sagemaker.sandbox import archives, disk, overlay, packages
from local_sagemaker.sandbox.container import Container, moved
from local_sagemaker.sandbox.cores import Cores, vcpus
from local_sagemaker.sandbox.disk import Quota
from local_sagemaker.sandbox.isolation import CONTAINER_BASE
from local_sagemaker.sandbox.process import JobProcess, OutputTail, output_path
from local_sagemaker.wire.errors import ApiError

STARTUP_TIMEOUT_S = 480.0
"""How long a model may take until its first successful ping; SageMaker's default is about eight minutes."""

_PING_TIMEOUT_S = 2.0
_STOP_GRACE_S = 30.0
_LAST_LINES, _MAX_QUOTED = 12, 700

# What is taken of its output at a time, in chunks: the thread that follows it has other work.
_CHUNKS_AT_ONCE = 16

_DISK_EVERY_S = 1.0
_SAFE_PORTS = 50

MOST_MOVES = 3
"""So often another port is tried where a program of the machine was faster than the server."""


class ModelServer:
    """Not thread-safe: one thread owns it. `port` may be read by any."""

    def __init__(
        self,
        platform: Platform,
        model: ServedModel,
        folder: Path,
        *,
        log: tuple[str, str],
        num_threads: int,
        nice: int,
        environment: dict[str, str] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """`log` is the log group and stream of what it prints; `environment` goes over the model's own.

        `stop`, set while `start` fetches the model or installs what it requires, ends that.
        """
        self._platform = platform
        self._model = model
        self._folder = folder
        self._base = folder / "opt/ml"
        self._log = log
        self._num_threads = num_threads
        self._nice = nice
        self._given = {**model.environment, **(environment or {})}
        self._stop = stop
        self._process: JobProcess | None = None
        self._tail = OutputTail(output_path(folder / "process"))
        self._logged_bytes = 0
        self._last_lines: list[str] = []
        self._quota = Quota(folder)
        self._next_quota = 0.0
        self._ended_for = ""
        self.port = 0
        """Loopback port; 0 before `start`."""

    def start(self) -> None:
        """Fetch the model and start the program; it is ready once `ping` says so. Raises JobFailedError."""
        container = Container.of(
            self._model.image,
            self._platform.images,
            self._platform.isolation,
            self._platform.settings,
            network_isolation=self._model.network_isolation,
            program="serve",
        )
        end_orphan(self._folder)
        self._tail = OutputTail(output_path(self._folder / "process"))
        self._keep_isolation()
        self._fetch()
        code = self._fetch_code()
        if self._stopped():
            raise packages.StoppedError("InternalServerError: the model server was stopped while its model was fetched")
        interpreter = container.interpreter(code / "requirements.txt", self.say, self._stop)
        own = overlay.make(self._folder / "environment", interpreter)  # where pip of the model's code installs
        self.port = _free_port()
        model = f"{CONTAINER_BASE}/model"
        try:
            self._process = container.start(
                [own, *(container.image.serve or ())],
                environment=self._environment(container, interpreter, own),
                cwd=self._base,
                folder=self._folder / "process",
                nice=self._nice,
                mounts={CONTAINER_BASE: self._base, model: self._base / "model"},
                read_only={model},
                relay_port=self.port,
            )
        except OSError as error:
            raise JobFailedError(f"InternalServerError: the model server cannot be started: {error}") from error

    @property
    def pid(self) -> int | None:
        """The process group's leader; None while there is none."""
        return self._process.pid if self._process else None

    def running(self) -> bool:
        return self._process is not None and self._process.running()

    def ping(self) -> bool:
        """Whether GET /ping answers 200 within two seconds."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PING_TIMEOUT_S)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def follow(self, *, final: bool = False) -> None:
        """Take what the program has printed since the last call to the logs; end one that fills the disk."""
        self._watch_disk()
        for _ in range(_CHUNKS_AT_ONCE):
            if not (lines := self._tail.lines(final=final)):
                return
            self._take(lines)

    def _take(self, lines: list[str]) -> None:
        self._last_lines = (self._last_lines + [line for line in lines if line.strip()])[-_LAST_LINES:]
        limit = self._platform.settings.max_log_bytes
        if self._tail.offset > limit:
            # It appends, so the file may be cut under it; lines printed at this very moment are lost.
            os.truncate(output_path(self._folder / "process"), 0)
            self._tail.offset = 0
        if self._logged_bytes > limit:
            return
        self._logged_bytes += sum(len(line) for line in lines)
        if self._logged_bytes > limit:
            lines.append(f"[local_sagemaker] more than {limit} bytes were printed; further output is not kept")
        self._platform.logs.put(*self._log, lines)

    def say(self, message: str) -> None:
        """A line of the platform's own in the log."""
        self._platform.logs.put(*self._log, [f"[local_sagemaker] {message}"])

    def last_output(self) -> str:
        """What it printed last, for a FailureReason; empty when it printed nothing.

        The last line comes first: it says what happened, and a console shows the beginning of a reason.
        """
        self.follow(final=not self.running())
        if not self._last_lines:
            return ""
        *before, last = self._last_lines
        last, text = last[:_MAX_QUOTED], "\n".join(before)
        text = text[max(0, len(text) + len(last) - _MAX_QUOTED) :]
        return f" Last output: {last}" + (f"\nBefore that:\n{text}" if text else "")

    def end_reason(self) -> str:
        """Why it does not run any more."""
        if self._ended_for:
            return self._ended_for
        code = self._process.exit_code() if self._process else None
        hint = " (killed, most often because the machine ran out of memory)" if code == 137 else ""
        return f"the model server ended with exit code {code}{hint}."

    def lost_its_port(self) -> bool:
        """Whether it ended and somebody else listens where it was to: a port is nobody's until a server listens.

        To be asked of one that has not answered yet. What it printed of that is no fault of the model.
        """
        if self.running() or self._ended_for or not _is_taken(self.port):
            return False
        self.follow(final=True)
        self.say(f"port {self.port} was taken by another program meanwhile; the model server starts at another one")
        return True

    def stop(self, grace_s: float = _STOP_GRACE_S) -> None:
        """SIGTERM, at most `grace_s` seconds to end, SIGKILL; the sandbox is removed."""
        if self._process:
            self._process.stop(grace_s)
            self._process = None
            self.follow(final=True)
        disk.remove(self._folder)

    def _watch_disk(self) -> None:
        now = time.monotonic()
        if now < self._next_quota or not self._process or not self._process.running():
            return
        self._next_quota = now + _DISK_EVERY_S
        if problem := self._quota.problem():
            self._ended_for = f"{problem.removeprefix('ClientError: ').replace('the job', 'the model server', 1)}."
            self._process.kill()

    def _keep_isolation(self) -> None:
        if self._model.network_isolation:
            try:
                waived = self._platform.isolation.check_network_isolation(self._platform.settings)
            except ApiError as error:  # CreateModel was more lucky, under a server with other rights
                raise JobFailedError(f"ClientError: {error.message}") from error
            if waived:
                self.say(waived)

    def _fetch(self) -> None:
        """The model's artifact, into model/."""
        folder = self._base / "model"
        folder.mkdir(parents=True)
        source = self._model.data
        if source is None:
            return
        objects, uri = self._platform.objects, source["S3Uri"]
        if source["CompressionType"] == "Gzip":
            archives.fetch_archive(objects, uri, folder, stopped=self._stopped)
        else:
            objects.download(objects.objects("S3Prefix", uri, self._stopped), folder, self._stopped)

    def _stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    def _fetch_code(self) -> Path:
        """The folder of the model's own code, fetched where the model's environment says where it is in S3."""
        submitted = self._given.get("SAGEMAKER_SUBMIT_DIRECTORY", f"{CONTAINER_BASE}/model/code")
        if not submitted.startswith("s3://"):
            return Path(moved(submitted, self._base))
        code = self._base / "code"
        archives.fetch_archive(self._platform.objects, submitted, code, archives.SOURCE, self._stopped)
        self._given["SAGEMAKER_SUBMIT_DIRECTORY"] = f"{CONTAINER_BASE}/code"
        return code

    def _environment(self, container: Container, interpreter: str, own: str) -> dict[str, str]:
        base = container.isolation.base(self._base)
        plain = container.environment(interpreter, self._folder, self._num_threads, self._base)
        return {
            **plain,
            "PATH": f"{Path(own).parent}:{plain['PATH']}",
            "SAGEMAKER_BASE_DIR": str(base),
            "SM_MODEL_DIR": str(base / "model"),
            "SAGEMAKER_CONTAINER_LOG_LEVEL": "20",
            "SAGEMAKER_MULTI_MODEL": "false",
            **{name: moved(value, base) for name, value in self._given.items()},
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
            "SAGEMAKER_SAFE_PORT_RANGE": f"{self.port + 1}-{self.port + _SAFE_PORTS}",
        }


def await_ping(server: ModelServer, timeout_s: float, cancelled: threading.Event) -> bool:
    """Wait for a server's first successful ping; False when the event `cancelled` came first.

    Raises JobFailedError when it ends before, or takes longer than `timeout_s` seconds.
    """
    deadline, moves = time.monotonic() + timeout_s, 0
    while not (server.running() and server.ping()):
        server.follow()
        if not server.running():
            if moves < MOST_MOVES and server.lost_its_port():
                moves += 1
                server.start()
                continue
            raise JobFailedError(f"AlgorithmError: {server.end_reason()}{server.last_output()}")
        if time.monotonic() > deadline:
            raise JobFailedError(f"AlgorithmError: no successful ping within {timeout_s:.0f} s.{server.last_output()}")
        if cancelled.wait(0.05):
            return False
    return True


def num_threads(cores: Cores, instance_type: str | None) -> int:
    """Threads of a server: all cores, at most the instance's vCPUs. Serving does not share with training."""
    total = cores.total
    return min(total, vcpus(instance_type)) if instance_type else total


def end_orphan(folder: Path) -> None:
    """End the server that an earlier run of this program left behind in `folder`, and remove the folder."""
    if process := JobProcess.adopt(folder / "process"):
        process.kill()
    disk.remove(folder)


def _free_port() -> int:
    """A free loopback port that nobody takes before the server does.

    It lies below those of outgoing connections, and above the inner ports of a store at the usual places (10,000 above
    its outer ones), which may be starting.
    """
    while True:
        port = random.randrange(30_000, 32_768)
        if not _is_taken(port):
            return port


def _is_taken(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return False
    return True
