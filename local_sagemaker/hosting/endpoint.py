"""Endpoints: model servers kept running behind a name, replaced without losing a request, restarted when they die.

An endpoint's record says what should be served; one thread per endpoint makes it so. The API operations only write the
record (`Creating`, `Updating`, `Deleting`) and wake the thread, so that after a restart of this program the same
threads, started from the same records, take up every endpoint where it was.

Each production variant is served by one worker, whatever its instance count: more processes would share the same
cores. Traffic shifting (canary, linear), baking times and alarms are accepted and have no effect: with one worker the
shift is all at once. Once it has answered its first ping, a worker is watched for its end, and pinged again only
after it has broken a connection.

Concurrency contract: `Endpoints` may be used from any thread. The workers belong to the endpoint's thread; only which
slots take requests, and how many are in flight, is shared, under the endpoint's lock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx

from local_sagemaker.hosting import serving
from local_sagemaker.hosting.serving import ModelServer, ServedModel
from local_sagemaker.jobs.life import JobFailedError
from local_sagemaker.platform import Platform, log
from local_sagemaker.sandbox import cores
from local_sagemaker.state import logs
from local_sagemaker.state.store import Record
from local_sagemaker.wire.errors import ApiError

KIND = "endpoint"

IN_PROGRESS = frozenset({"Creating", "Updating", "Deleting"})
"""Statuses in which the endpoint's thread has something to bring to an end, and API calls must wait."""

INVOCATION_TIMEOUT_S = 60.0
"""The longest an answer may take; a retired worker is given this long to finish."""

_TICK_S = 0.1
_IDLE_S = 0.5
_STABLE_S = 60.0
_MAX_BACKOFF_S = 30.0
_ABANDON_GRACE_S = 3.0
_REASON_LIMIT = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """A production variant with its model resolved: what one slot serves. Kept in the endpoint's record."""

    name: str
    model: ServedModel
    weight: float
    instance_count: int | None
    instance_type: str | None
    """None for a serverless variant, like its count."""
    startup_timeout_s: float

    @classmethod
    def of(cls, platform: Platform, variant: dict[str, Any]) -> Variant:
        """From a ProductionVariant of an endpoint config. Raises a ValidationException when its model is gone."""
        return cls(
            name=variant["VariantName"],
            model=serving.resolve(platform, variant["ModelName"]),
            weight=variant.get("InitialVariantWeight", 1.0),
            instance_count=variant.get("InitialInstanceCount"),
            instance_type=variant.get("InstanceType"),
            startup_timeout_s=variant.get("ContainerStartupHealthCheckTimeoutInSeconds", serving.STARTUP_TIMEOUT_S),
        )

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Variant:
        return cls(**{**content, "model": ServedModel(**content["model"])})

    def summary(self, *, current: bool) -> dict[str, Any]:
        """Its ProductionVariantSummary; `current` once it serves."""
        image = {"SpecifiedImage": self.model.image, "ResolvedImage": self.model.image, "ResolutionTime": time.time()}
        answer = {"VariantName": self.name, "DeployedImages": [image], "DesiredWeight": self.weight}
        if self.instance_count is not None:
            answer["DesiredInstanceCount"] = self.instance_count
            answer["CurrentInstanceCount"] = self.instance_count if current else 0
        return answer | ({"CurrentWeight": self.weight} if current else {})


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """The right to send one request to a worker; it is not stopped before the lease is given back."""

    endpoint: Endpoint
    slot: Slot
    url: str

    @property
    def variant(self) -> str:
        return self.slot.variant.name

    def release(self) -> None:
        self.endpoint.release(self)

    def lost(self) -> None:
        """The worker broke the connection: nobody else is sent to it before it has answered a ping again."""
        self.slot.port = None
        self.endpoint.wake()


class Slot:
    """One variant's place: its worker, started again when it dies, with growing pauses between failing starts."""

    def __init__(self, platform: Platform, endpoint: str, variant: Variant) -> None:
        self._platform = platform
        self._endpoint = endpoint
        self.variant = variant
        self.port: int | None = None
        """Where requests go; None while there is no worker that answers. Any thread may set it to None."""
        self.in_flight = 0
        """Guarded by the endpoint's lock."""
        self.failure: str | None = None
        """Why the last start failed or the last worker ended; None once one answers."""
        self._server: ModelServer | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._waiting_since: float | None = None
        """When it began to wait for a ping; None while it answers."""
        self._answered_at: float | None = None

    def tend(self) -> None:
        """Do what is due now: start, ping, notice an end. Blocks no longer than fetching the model takes."""
        now = time.monotonic()
        if self._server is None:
            if now >= self._retry_at:
                self._start()
            return
        self._server.follow()
        if not self._server.running():
            self._fail(f"AlgorithmError: {self._server.end_reason()}")
        elif self.port is None:
            self._await(self._server, now)

    def stop(self, grace_s: float | None = None) -> None:
        self.port = None
        if self._server:
            self._server.stop() if grace_s is None else self._server.stop(grace_s)
            self._server = None

    def _await(self, server: ModelServer, now: float) -> None:
        """One ping."""
        self._waiting_since = self._waiting_since or now
        if server.ping():
            self.failure = self._waiting_since = None
            self._answered_at = self._answered_at or now
            self.port = server.port
        elif now - self._waiting_since > self.variant.startup_timeout_s:
            limit = f"{self.variant.startup_timeout_s:.0f} s"
            self._fail(f"AlgorithmError: it did not pass the ping health check within {limit}.")

    def _start(self) -> None:
        identity = uuid.uuid4().hex[:12]
        self._waiting_since = self._answered_at = None
        self._server = ModelServer(
            self._platform,
            self.variant.model,
            self._platform.settings.root / KIND / f"{self._endpoint.lower()}-{identity}",
            log=(f"{logs.ENDPOINTS}/{self._endpoint}", f"{self.variant.name}/{identity}"),
            num_threads=serving.num_threads(self._platform, self.variant.instance_type),
            nice=cores.NICE_SERVING,
        )
        try:
            self._server.start()
        except JobFailedError as error:
            self._fail(str(error))
        except Exception as error:
            log.exception("endpoint '%s'", self._endpoint)
            self._fail(f"InternalServerError: {type(error).__name__}: {error}")

    def _fail(self, reason: str) -> None:
        now = time.monotonic()
        stable = self._answered_at is not None and now - self._answered_at > _STABLE_S
        self._failures = 1 if stable else self._failures + 1
        pause = min(_MAX_BACKOFF_S, 0.25 * 2**self._failures)
        self._retry_at = now + pause
        self.failure = reason
        if self._server:
            self._server.say(reason)
            self.failure += self._server.last_output()
        log.warning("endpoint '%s', variant '%s': %s", self._endpoint, self.variant.name, reason)
        self.stop(_ABANDON_GRACE_S)


class Endpoint:
    """The thread of one endpoint, from its creation (or the server's start) to its deletion (or the server's end)."""

    def __init__(self, platform: Platform, record: Record, forget: Callable[[str], None]) -> None:
        self.name = record.name
        self._platform = platform
        self._forget = forget
        self._lock = threading.Lock()
        self._slots = self._make_slots(record.internal.get("deployment", []))
        self._retiring: list[threading.Thread] = []
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{KIND}/{self.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """The record has changed."""
        self._wake.set()

    def close(self) -> None:
        """Ask for the end of the thread and its workers; `join` waits for it."""
        self._closed.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def acquire(self, variant: str | None) -> Lease | None:
        """A worker for one request, chosen by weight or by name; None when it is just not ready.

        Raises a ValidationError when there is nothing in service, or no such variant.
        """
        with self._lock:
            if not self._slots:
                raise not_found(self._platform, self.name)
            if variant is None:
                eligible = [slot for slot in self._slots if slot.variant.weight > 0] or self._slots
            else:
                eligible = [slot for slot in self._slots if slot.variant.name == variant]
            if not eligible:
                raise ApiError("ValidationError", f"Variant {variant} not found for endpoint {self.name}.")
            ready = [(slot, port) for slot in eligible if (port := slot.port) is not None]
            if not ready:
                return None
            ((slot, port),) = random.choices(ready, [slot.variant.weight or 1.0 for slot, _ in ready])
            slot.in_flight += 1
            return Lease(self, slot, f"http://127.0.0.1:{port}")

    def release(self, lease: Lease) -> None:
        with self._lock:
            lease.slot.in_flight -= 1

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.clear()
            try:
                if not self._step():
                    break
            except Exception:
                log.exception("endpoint '%s'", self.name)
            self._wake.wait(_IDLE_S)
        for slot in self._slots:
            slot.stop(_ABANDON_GRACE_S)
        for thread in self._retiring:
            thread.join()

    def _step(self) -> bool:
        """Bring reality nearer to the record; False when the record is gone."""
        record = self._platform.store.get(KIND, self.name)
        if record is None:
            return False
        match record.status:
            case "Creating" | "Updating":
                self._roll_out(record)
            case "Deleting":
                self._delete()
                return False
            case _:
                self._tend(self._slots)
        return True

    def _delete(self) -> None:
        self._retire_all([])
        for thread in self._retiring:
            thread.join()
        self._forget(self.name)
        self._platform.store.delete(KIND, self.name)

    def _roll_out(self, record: Record) -> None:
        """Start the pending deployment's workers beside the serving ones; then switch, or give them up."""
        fresh = self._make_slots(record.internal["pending"])
        with contextlib.ExitStack() as unless_accepted:
            for slot in fresh:
                unless_accepted.callback(slot.stop, _ABANDON_GRACE_S)
            while not all(slot.port for slot in fresh):
                self._tend([*self._slots, *fresh])
                for slot in fresh:
                    if slot.failure:
                        return self._reject(slot)
                if self._closed.wait(_TICK_S):
                    return
            unless_accepted.pop_all()
        self._retire_all(fresh)
        self._platform.store.update(KIND, self.name, _accepted)

    def _reject(self, failed: Slot) -> None:
        self._platform.store.update(KIND, self.name, lambda record: _rejected(record, failed))

    def _tend(self, slots: list[Slot]) -> None:
        for slot in slots:
            slot.tend()

    def _retire_all(self, successors: list[Slot]) -> None:
        """From this moment requests go to `successors`; the slots before them end when they have answered theirs."""
        with self._lock:
            retired, self._slots = self._slots, successors
        self._retiring = [thread for thread in self._retiring if thread.is_alive()]
        for slot in retired:
            thread = threading.Thread(target=self._retire, args=(slot,), name=f"{KIND}/{self.name}/retire", daemon=True)
            self._retiring.append(thread)
            thread.start()

    def _retire(self, slot: Slot) -> None:
        deadline = time.monotonic() + INVOCATION_TIMEOUT_S + 1
        while slot.in_flight and time.monotonic() < deadline and not self._closed.is_set():
            time.sleep(_TICK_S)
        slot.stop(_ABANDON_GRACE_S if self._closed.is_set() else None)

    def _make_slots(self, variants: list[dict[str, Any]]) -> list[Slot]:
        return [Slot(self._platform, self.name, Variant.from_json(variant)) for variant in variants]


class Endpoints:
    """All endpoints of this server: the way from an endpoint's name to a worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, Endpoint] = {}

    @functools.cached_property
    def client(self) -> httpx.AsyncClient:
        """The connections to workers; made by the event loop that uses them.

        An idle connection is dropped long before a usual server's keep-alive timeout of five seconds: a request sent
        into one that the server is closing would be lost.
        """
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=2.0)
        return httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(None, connect=5.0), trust_env=False)

    def restore(self, platform: Platform) -> None:
        """Serve again what was served when the server ended; it returns at once, the workers start behind it.

        Workers that outlived a killed server are ended first: nobody counts their requests any more.
        """
        for folder in (platform.settings.root / KIND).glob("*"):
            serving.end_orphan(folder)
        for record in platform.store.list(KIND):
            self.carry(platform, record)

    def carry(self, platform: Platform, record: Record) -> None:
        """Make reality follow an endpoint's record; called after every change of it."""
        with self._lock:
            if endpoint := self._live.get(record.name):
                endpoint.wake()
            else:
                self._live[record.name] = Endpoint(platform, record, self.forget)

    def acquire(self, platform: Platform, name: str, variant: str | None) -> Lease | None:
        """See Endpoint.acquire; an endpoint that is not in service is not found, as on AWS."""
        with self._lock:
            endpoint = self._live.get(name)
        if endpoint is None:
            raise not_found(platform, name)
        return endpoint.acquire(variant)

    def forget(self, name: str) -> None:
        """An endpoint's thread is about to delete its record: nobody may wake it any more."""
        with self._lock:
            self._live.pop(name, None)

    def close(self) -> None:
        """End all workers; the records stay, so that the next server serves them again."""
        with self._lock:
            endpoints = list(self._live.values())
        for endpoint in endpoints:
            endpoint.close()
        for endpoint in endpoints:
            endpoint.join(2 * _ABANDON_GRACE_S)


def not_found(platform: Platform, name: str) -> ApiError:
    return ApiError("ValidationError", f"Endpoint {name} of account {platform.settings.account} not found.")


def request_deployment(record: Record, config: str, variants: list[Variant], policy: dict[str, Any] | None) -> None:
    """Write into a new or an existing endpoint's record what its thread is to roll out."""
    record.internal["pending"] = [dataclasses.asdict(variant) for variant in variants]
    record.internal["pending_config"] = config
    record.internal["pending_policy"] = policy
    record.describe.pop("FailureReason", None)
    summaries = [variant.summary(current=False) for variant in variants]
    if "deployment" in record.internal:
        record.describe["EndpointStatus"] = "Updating"
        record.describe["PendingDeploymentSummary"] = {
            "EndpointConfigName": config,
            "ProductionVariants": summaries,
            "StartTime": time.time(),
        }
    else:
        record.describe |= {
            "EndpointStatus": "Creating",
            "EndpointConfigName": config,
            "ProductionVariants": summaries,
        }


def _accepted(record: Record) -> None:
    deployment = record.internal["deployment"] = record.internal.pop("pending")
    record.describe.pop("PendingDeploymentSummary", None)
    record.describe |= {
        "EndpointStatus": "InService",
        "EndpointConfigName": record.internal.pop("pending_config"),
        "ProductionVariants": [Variant.from_json(variant).summary(current=True) for variant in deployment],
    }
    if policy := record.internal.pop("pending_policy"):
        record.describe["LastDeploymentConfig"] = policy


def _rejected(record: Record, failed: Slot) -> None:
    """SageMaker's rollback: an endpoint that served goes on serving what it served, and says what went wrong."""
    for name in ("pending", "pending_config", "pending_policy"):
        record.internal.pop(name)
    record.describe.pop("PendingDeploymentSummary", None)
    record.describe["EndpointStatus"] = "InService" if "deployment" in record.internal else "Failed"
    reason = f"The primary container for production variant {failed.variant.name} did not start: {failed.failure}"
    record.describe["FailureReason"] = reason if len(reason) <= _REASON_LIMIT else f"{reason[: _REASON_LIMIT - 1]}…"
