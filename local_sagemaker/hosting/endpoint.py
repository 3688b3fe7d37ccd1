"""Endpoints: model servers kept running behind a name, replaced without losing a request, restarted when they die.

An endpoint's record says what should be served; one thread per endpoint makes it so. The API operations only write the
record (`Creating`, `Updating`, `Deleting`) and wake the thread, so that after a restart of this program the same
threads, started from the same records, take up every endpoint where it was. An endpoint at rest costs a look at each
worker's process and output twice a second, a ping every five seconds and a reading of its CPU and memory a minute.

Concurrency contract: `Endpoints` may be used from any thread. The workers belong to the endpoint's thread; who gets the
next request is the `Traffic`'s business.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from local_sagemaker.background import log
from local_sagemaker.hosting import deployment, model_server
from local_sagemaker.hosting.deployment import IN_PROGRESS as IN_PROGRESS
from local_sagemaker.hosting.deployment import KIND as KIND
from local_sagemaker.hosting.fleet import Fleet, Group
from local_sagemaker.hosting.instance_metrics import InstanceMetrics
from local_sagemaker.hosting.plan import Plan
from local_sagemaker.hosting.retirement import Retirement
from local_sagemaker.hosting.rollout import InterruptedRolloutError, RolledBackError, Rollout
from local_sagemaker.hosting.traffic import INVOCATION_TIMEOUT_S as INVOCATION_TIMEOUT_S
from local_sagemaker.hosting.traffic import Lease as Lease
from local_sagemaker.hosting.traffic import Traffic
from local_sagemaker.hosting.variant import Variant
from local_sagemaker.hosting.worker import ABANDON_GRACE_S, Worker
from local_sagemaker.platform import Platform
from local_sagemaker.settings import Settings
from local_sagemaker.state.store import Record
from local_sagemaker.wire.errors import ApiError

_TICK_S = 0.1
_IDLE_S = 0.5


class Endpoint:
    """The thread of one endpoint, from its creation (or the server's start) to its deletion (or the server's end)."""

    def __init__(self, platform: Platform, record: Record, forget: Callable[[str], None]) -> None:
        self.name = record.name
        self._platform = platform
        self._forget = forget
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._retirement = Retirement(f"{KIND}/{self.name}")
        self._instance_metrics = InstanceMetrics(platform.metrics, self.name)
        self._traffic = Traffic(self._restored(record))
        self._thread = threading.Thread(target=self._run, name=f"{KIND}/{self.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """The record has changed, or a worker needs attention."""
        self._wake.set()

    def close(self) -> None:
        """Ask for the end of the thread and its workers; `join` waits for it."""
        self._closed.set()
        self._retirement.hurry()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def acquire(self, variant: str | None, preferred: Worker | None = None) -> Lease | None:
        """See Traffic.acquire. Raises a ValidationError when there is nothing in service, or no such variant."""
        try:
            return self._traffic.acquire(variant, preferred)
        except LookupError:
            if variant is None or self._traffic.serving is None:
                raise not_found(self._platform.settings, self.name) from None
            raise ApiError("ValidationError", f"Variant {variant} not found for endpoint {self.name}.") from None

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        due = True
        while not self._closed.is_set():
            try:
                # Cleared only by who looks at the record next: a wake-up that comes as a pause ends is not lost.
                if due or self._wake.is_set():
                    self._wake.clear()
                    if not self._step():
                        break
                due = False
                self._tend()
            except Exception:
                log.exception("endpoint '%s'", self.name)
                self._closed.wait(_IDLE_S)
                due = True
            self._wake.wait(_IDLE_S)
        for fleet in self._traffic.close():
            for slot in fleet.slots:
                slot.stop(ABANDON_GRACE_S)
        self._retirement.wait()

    def _step(self) -> bool:
        """Bring reality nearer to the record; False when the record is gone."""
        record = self._platform.store.get(KIND, self.name)
        if record is None:
            return False
        match record.status:
            case "Creating" | "Updating" if pending := deployment.pending(record):
                self._roll_out(record, pending)
            case "Updating":
                self._change_capacities(record)
            case "RollingBack":  # the server ended in the middle of it
                self._end_rollback()
            case "Deleting":
                self._delete()
                return False
        return True

    def _tend(self) -> None:
        if fleet := self._traffic.serving:
            fleet.tend()
            self._instance_metrics.measure(fleet)

    def _delete(self) -> None:
        """AWS says nothing of requests in flight. Here a real-time one is answered, what may take longer is cut off."""
        for fleet in self._traffic.close():
            self._retirement.begin(fleet.slots)
        self._retirement.end_within(INVOCATION_TIMEOUT_S + 1)
        self._retirement.wait()
        self._forget(self.name)
        self._platform.store.delete(KIND, self.name)

    # -- deployments ----------------------------------------------------------------------------------------------

    def _roll_out(self, record: Record, pending: deployment.Deployment) -> None:
        fresh = self._fleet(pending.config, pending.variants)
        if self._traffic.serving:
            plan = Plan.of(pending.policy, [variant.instance_count or 1 for variant in pending.variants])
        else:
            plan = Plan.of(None, [1])  # nobody is served yet, so nothing is shifted
        rollout = Rollout(self._platform, self.name, self._traffic, fresh, plan, closed=self._closed)
        try:
            rollout.run()
        except InterruptedRolloutError:
            self._traffic.withdraw()
            self._retirement.begin(fresh.slots)
        except RolledBackError as error:
            self._roll_back(fresh, str(error))
        except BaseException:
            self._traffic.withdraw()
            self._retirement.begin(fresh.slots)
            raise
        else:
            before = self._traffic.promote(fresh)
            summaries = fresh.summaries()
            self._platform.store.update(KIND, self.name, lambda record: deployment.accept(record, summaries))
            self._retirement.begin(before.slots if before else [])

    def _roll_back(self, fresh: Fleet, reason: str) -> None:
        """The fresh fleet has lost its requests already."""
        log.warning("endpoint '%s': %s", self.name, reason)
        self._platform.store.update(KIND, self.name, lambda record: deployment.begin_rollback(record, reason))
        self._retirement.begin(fresh.slots, INVOCATION_TIMEOUT_S + 1)
        while self._retirement.going_on() and not self._closed.wait(_TICK_S):
            self._tend()
        if self._traffic.serving:
            self._end_rollback()

    def _end_rollback(self) -> None:
        summaries = self._traffic.serving.summaries() if self._traffic.serving else []
        self._platform.store.update(KIND, self.name, lambda record: deployment.end_rollback(record, summaries))

    def _change_capacities(self, record: Record) -> None:
        """New weights hold at once; workers that are too few are started, those that are too many end when idle."""
        changes = record.internal["capacities"]
        variants = deployment.changed(deployment.serving(record), changes)
        fleet = self._traffic.serving
        if fleet is None:
            return
        self._traffic.weigh({variant.name: variant.weight for variant in variants})
        failure = None
        for variant, group in zip(variants, fleet.groups, strict=True):
            failure = self._resize(group, variant)
            if failure:
                break
        if self._closed.is_set():
            return
        settled = [group.variant for group in fleet.groups]
        summaries = fleet.summaries()
        self._platform.store.update(
            KIND, self.name, lambda record: deployment.settle_capacities(record, settled, summaries, failure)
        )

    def _resize(self, group: Group, variant: Variant) -> str | None:
        """Make a group what `variant` says; why it could not be, with the group as it was but for its weight."""
        before = list(group.slots)
        removed = self._traffic.resize(group, variant.num_workers(self._platform.settings, self._platform.cores))
        added = [slot for slot in group.slots if slot not in before]
        while not self._closed.is_set() and not all(slot.port for slot in added):
            self._tend()
            if failed := next((slot.failure for slot in added if slot.failure), None):
                self._retirement.begin(self._traffic.resize(group, len(before)))
                group.variant = deployment.with_weight(group.variant, variant.weight)
                return f"Variant {variant.name} could not get {variant.instance_count} instances: {failed}"
            self._closed.wait(_TICK_S)
        self._retirement.begin(removed)
        group.variant = variant
        return None

    def _restored(self, record: Record) -> Fleet | None:
        variants = deployment.serving(record)
        if not variants:
            return None
        fleet = self._fleet(record.describe["EndpointConfigName"], variants)
        fleet.scale(1)
        return fleet

    def _fleet(self, config: str, variants: list[Variant]) -> Fleet:
        return Fleet(self._platform, self.name, config, variants, self.wake)


class Endpoints:
    """All endpoints of this server: the way from an endpoint's name to a worker."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._lock = threading.Lock()
        self._live: dict[str, Endpoint] = {}

    def restore(self) -> None:
        """Serve again what was served when the server ended; it returns at once, the workers start behind it.

        Workers that outlived a killed server are ended first: nobody counts their requests any more.
        """
        for folder in (self._platform.settings.root / KIND).glob("*"):
            model_server.end_orphan(folder)
        for record in self._platform.store.list(KIND):
            self.carry(record)

    def carry(self, record: Record) -> None:
        """Make reality follow the record of an endpoint that is new, or of an earlier server."""
        with self._lock:
            self._live[record.name] = Endpoint(self._platform, record, self.forget)

    def wake(self, name: str) -> None:
        """Called after every change of an endpoint's record; one that is deleted meanwhile stays so."""
        with self._lock:
            if endpoint := self._live.get(name):
                endpoint.wake()

    def acquire(self, name: str, variant: str | None, preferred: Worker | None = None) -> Lease | None:
        """See Endpoint.acquire; an endpoint that is not in service is not found, as on AWS."""
        with self._lock:
            endpoint = self._live.get(name)
        if endpoint is None:
            raise not_found(self._platform.settings, name)
        return endpoint.acquire(variant, preferred)

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
        deadline = time.monotonic() + 2 * ABANDON_GRACE_S
        for endpoint in endpoints:
            endpoint.join(max(0.0, deadline - time.monotonic()))


def not_found(settings: Settings, name: str) -> ApiError:
    return ApiError("ValidationError", f"Endpoint {name} of account {settings.account} not found.")
