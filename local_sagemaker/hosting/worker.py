"""One instance's place: its worker, started again when it dies or hangs, with growing pauses between failing starts.

A worker that answers is pinged every few seconds while it has nothing to do: a program that works on a request may be
too busy to answer. It gets no requests from the first ping that fails until one succeeds, and is replaced after
`HUNG_S` of silence. An invocation that timed out has it pinged at once; three in a row without an answer replace it
although it answers pings.

Concurrency contract: the endpoint's thread owns a slot. Any thread may call `suspect`, `timed_out` and `answered`, and
read `port`. `in_flight` is guarded by the traffic's lock.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable

from local_sagemaker.background import log
from local_sagemaker.failures import JobFailedError
from local_sagemaker.hosting import model_server
from local_sagemaker.hosting.model_server import MOST_MOVES, ModelServer
from local_sagemaker.hosting.variant import Variant
from local_sagemaker.jobs import status as job_status
from local_sagemaker.platform import Platform
from local_sagemaker.sandbox import cores
from local_sagemaker.sandbox.cores import Cores
from local_sagemaker.settings import Settings
from local_sagemaker.state import logs

ABANDON_GRACE_S = 3.0
"""Between SIGTERM and SIGKILL of a worker that nobody waits for any more."""

HUNG_S = 10.0
"""How long a worker that has answered before may be silent."""

FOLDER = "endpoint"
"""Below the server's root: one folder per worker."""

_HEALTH_EVERY_S = 5.0
_MAX_TIMEOUTS = 3
_STABLE_S = 60.0
_MAX_BACKOFF_S = 30.0


class Worker:
    def __init__(
        self, platform: Platform, endpoint: str, variant: Variant, num_threads: int, wake: Callable[[], None]
    ) -> None:
        """`wake` has the endpoint's thread tend it soon."""
        self._platform = platform
        self._endpoint = endpoint
        self._num_threads = num_threads
        self._wake = wake
        self.variant = variant
        self.port: int | None = None
        """Where requests go; None while there is no worker that answers."""
        self.in_flight = 0
        self.failure: str | None = None
        """Why the last start failed or the last worker ended; None once one answers."""
        self._server: ModelServer | None = None
        self._start_failure: str | None = None
        self._starting = False
        self._starter: threading.Thread | None = None
        self._abandoned = threading.Event()
        """Set when nobody waits any more for what is being started."""
        self._handover = threading.Lock()
        """Guards who stops a server: this slot, or the thread that starts it."""
        self._failures = self._moves = 0
        self._retry_at = 0.0
        self._waiting_since: float | None = None
        """When it began to wait for a ping; None while it answers."""
        self._answered_at: float | None = None
        self._pinged_at = 0.0
        self._timeouts = 0

    @property
    def pid(self) -> int | None:
        """The worker's process; None while there is none."""
        return self._server.pid if self._server else None

    # -- any thread -----------------------------------------------------------------------------------------------

    def suspect(self) -> None:
        """Nobody else is sent to it before it has answered a ping again."""
        self.port = None
        self._wake()

    def timed_out(self) -> None:
        self._timeouts += 1
        self.suspect()

    def answered(self) -> None:
        self._timeouts = 0

    # -- the endpoint's thread ------------------------------------------------------------------------------------

    def tend(self) -> None:
        """Do what is due now: start, ping, notice an end. Blocks no longer than a ping."""
        now = time.monotonic()
        if self._server is None:
            if now >= self._retry_at:
                self._start()
            return
        if self._starting:
            return
        if self._start_failure:
            return self._fail(self._start_failure)
        self._server.follow()
        if not self._server.running():
            if self._answered_at is None and self._moves < MOST_MOVES and self._server.lost_its_port():
                self._moves += 1
                return self.stop(ABANDON_GRACE_S)  # and start at once
            self._fail(f"AlgorithmError: {self._server.end_reason()}")
        elif self.port is None:
            self._await(self._server, now)
        elif not self.in_flight and now - self._pinged_at > _HEALTH_EVERY_S:
            self._pinged_at = now
            if not self._server.ping():
                self.port = None

    def stop(self, grace_s: float | None = None) -> None:
        """End the worker; None gives it the 30 s that SageMaker gives."""
        self.port = None
        with self._handover:
            server, self._server = self._server, None
            abandoned = server is not None and self._starting
            if abandoned:
                self._abandoned.set()  # the thread that starts it ends it
        if abandoned and self._starter:
            self._starter.join(ABANDON_GRACE_S)
        elif server:
            server.stop() if grace_s is None else server.stop(grace_s)

    def _await(self, server: ModelServer, now: float) -> None:
        """One ping."""
        self._waiting_since = self._waiting_since or now
        self._pinged_at = now
        if server.ping():
            if self._timeouts >= _MAX_TIMEOUTS:
                return self._fail(
                    f"AlgorithmError: it answers pings, but {self._timeouts} invocations in a row timed out; "
                    "it is replaced."
                )
            self.failure = self._waiting_since = None
            self._answered_at = self._answered_at or now
            self._moves = 0
            self.port = server.port
            return
        limit = self.variant.startup_timeout_s if self._answered_at is None else HUNG_S
        if time.monotonic() - self._waiting_since > limit:
            what = "it did not pass the ping health check" if self._answered_at is None else "it answered no ping"
            self._fail(f"AlgorithmError: {what} within {limit:.0f} s, though its process runs; it is replaced.")

    def _start(self) -> None:
        identity = uuid.uuid4().hex[:12]
        self._waiting_since = self._answered_at = self._start_failure = None
        self._timeouts = 0
        self._abandoned = threading.Event()
        self._server = ModelServer(
            self._platform,
            self.variant.model,
            self._platform.settings.root / FOLDER / f"{self._endpoint.lower()}-{identity}",
            log=(f"{logs.ENDPOINTS}/{self._endpoint}", f"{self.variant.name}/{identity}"),
            num_threads=self._num_threads,
            nice=cores.NICE_SERVING,
            stop=self._abandoned,
        )
        # Fetching a model takes seconds, installing what it requires minutes; other workers are tended meanwhile.
        self._starting = True
        self._starter = threading.Thread(
            target=self._start_in_thread, args=(self._server,), name=f"{self._endpoint}/start", daemon=True
        )
        self._starter.start()

    def _start_in_thread(self, server: ModelServer) -> None:
        failure = None
        try:
            server.start()
        except JobFailedError as error:
            failure = str(error)
        except Exception as error:
            log.exception("endpoint '%s'", self._endpoint)
            failure = job_status.fault_of_job(error) or f"InternalServerError: {type(error).__name__}: {error}"
        with self._handover:
            abandoned = self._server is not server
            if not abandoned:
                self._start_failure = failure
                self._starting = False
        if abandoned:
            server.stop(ABANDON_GRACE_S)
        self._wake()

    def _fail(self, reason: str) -> None:
        now = time.monotonic()
        stable = self._answered_at is not None and now - self._answered_at > _STABLE_S
        self._failures = 1 if stable else self._failures + 1
        self._retry_at = now + min(_MAX_BACKOFF_S, 0.25 * 2**self._failures)
        self.failure = reason
        if self._server:
            self._server.say(reason)
            self.failure += self._server.last_output()
        log.warning("endpoint '%s', variant '%s': %s", self._endpoint, self.variant.name, reason)
        self.stop(ABANDON_GRACE_S)


def num_threads(settings: Settings, cores: Cores, variant: Variant) -> int:
    """Threads of each of a variant's workers: its instances' cores, shared fairly where there are fewer."""
    total = model_server.num_threads(cores, variant.instance_type)
    return max(1, min(total, cores.total // variant.num_workers(settings, cores)))
