"""Endpoint variants scaled by their requests, as Application Auto Scaling tracks a target.

Once a minute each scalable target is looked at: where each of the last three minutes had more requests for an instance
than a policy's TargetValue, instances are added; where each of the last fifteen had less than nine tenths of it, some
are ended. As many as the target asks for, within the bounds, and after the policy's cooldown. `--time-scale` shortens
these minutes too, down to a second; requests are then counted as of a whole one. While an endpoint changes it is left
alone. Source: the Application Auto Scaling guide, "Target tracking scaling policies".

Concurrency contract: any thread may call any method. One thread looks; it sleeps while there is no target.
"""

from __future__ import annotations

import datetime
import math
import threading
import time
import uuid
from typing import Any

from local_sagemaker.background import log
from local_sagemaker.hosting import deployment
from local_sagemaker.hosting.endpoint import Endpoints
from local_sagemaker.platform import Platform
from local_sagemaker.state.metrics import Metric
from local_sagemaker.state.store import GoneError, Record, Store

KIND = "scalable-target"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
METRIC = "SageMakerVariantInvocationsPerInstance"

_OUT_AFTER, _IN_AFTER = 3, 15
"""Minutes in a row."""
_SLACK = 0.9
_COOLDOWN_S = 300
_KEPT = 50


class Autoscaling:
    def __init__(self, platform: Platform, endpoints: Endpoints) -> None:
        self._platform = platform
        self._endpoints = endpoints
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Go on with the targets that an earlier server left."""
        self._thread = threading.Thread(target=self._run, name="autoscaling", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """A target has been made or changed; its bounds hold at once."""
        self._wake.set()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        if self._thread:
            self._thread.join(5.0)

    @property
    def _minute_s(self) -> float:
        return max(1.0, 60 * self._platform.settings.time_scale)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.clear()
            targets = self._platform.store.list(KIND).page(order="name")
            for target in targets:
                try:
                    self._look(target)
                except Exception:
                    log.exception("%s cannot be scaled", target.name)
            self._wake.wait(self._minute_s if targets else None)

    def _look(self, target: Record) -> None:
        endpoint, variant = endpoint_and_variant(target.name)
        record = self._platform.store.get(deployment.KIND, endpoint)
        if record is None or record.status != "InService":
            return
        count = {one.name: one.instance_count for one in deployment.serving(record)}.get(variant)
        if count is None:
            return
        wanted, cause = self._wanted(target, count)
        bounded = min(max(wanted, target.describe["MinCapacity"]), target.describe["MaxCapacity"])
        if bounded != count:
            self._scale(target, count, bounded, cause if bounded == wanted else "its bounds")

    def _wanted(self, target: Record, count: int) -> tuple[int, str]:
        """The most that a policy asks for, and which did; scaled in only where all policies allow it."""
        asked = [
            (self._tracked(target, policy["TargetTrackingScalingPolicyConfiguration"], count), f"policy {name}")
            for name, policy in sorted(target.internal["policies"].items())
        ]
        return max(asked, default=(count, "its bounds"), key=lambda one: one[0])

    def _tracked(self, target: Record, config: dict[str, Any], count: int) -> int:
        limit, suspended = float(config["TargetValue"]), target.describe["SuspendedState"]
        minutes = self._invocations_per_instance(target.name, count)
        recent = minutes[-_OUT_AFTER:]
        wanted = math.ceil(count * recent[-1] / limit)
        is_out = all(value > limit for value in recent) and not suspended["DynamicScalingOutSuspended"]
        if is_out and self._rested(target, config.get("ScaleOutCooldown", _COOLDOWN_S)):
            return max(count, wanted)
        may_shrink = not config.get("DisableScaleIn") and not suspended["DynamicScalingInSuspended"]
        is_in = all(value < _SLACK * limit for value in minutes) and self._is_old(target)
        if may_shrink and is_in and self._rested(target, config.get("ScaleInCooldown", _COOLDOWN_S)):
            return min(count, max(1, math.ceil(count * max(minutes) / limit)))
        return count

    def _invocations_per_instance(self, name: str, count: int) -> list[float]:
        """Of each of the last fifteen minutes that are over, the oldest first."""
        endpoint, variant = endpoint_and_variant(name)
        metric = Metric.of("AWS/SageMaker", "Invocations", {"EndpointName": endpoint, "VariantName": variant})
        span = math.ceil(self._minute_s)
        end = int(time.time()) // span * span
        points = self._platform.metrics.read(metric, end - _IN_AFTER * span, end, span)
        found = {point.start: point.statistics.total for point in points}
        starts = range(end - _IN_AFTER * span, end, span)
        return [found.get(start, 0.0) / count * 60 / span for start in starts]

    def _is_old(self, target: Record) -> bool:
        """Whether there were fifteen minutes to look at since it was registered: silence before counts for nothing."""
        return time.time() - float(target.describe["CreationTime"]) >= _IN_AFTER * self._minute_s

    def _rested(self, target: Record, cooldown_s: float) -> bool:
        last = target.internal["activities"][0]["StartTime"] if target.internal["activities"] else 0.0
        return bool(time.time() - last >= cooldown_s * self._platform.settings.time_scale)

    def _scale(self, target: Record, count: int, wanted: int, cause: str) -> None:
        endpoint, variant = endpoint_and_variant(target.name)

        def change(record: Record) -> None:
            if record.status != "InService":
                raise GoneError(endpoint)
            deployment.request_capacities(record, {variant: {"instance_count": wanted}})

        now = time.time()
        activity = {
            "ActivityId": str(uuid.uuid4()),
            "ServiceNamespace": "sagemaker",
            "ResourceId": target.name,
            "ScalableDimension": DIMENSION,
            "Description": f"Setting desired instance count to {wanted}.",
            "Cause": f"{cause} at {datetime.datetime.fromtimestamp(now, datetime.UTC):%H:%M:%S}: {count} to {wanted}",
            "StartTime": now,
            "StatusCode": "Successful",
            "StatusMessage": f"Successfully set desired instance count to {wanted}.",
        }
        try:
            self._platform.store.update(deployment.KIND, endpoint, change)
            self._platform.store.update(KIND, target.name, lambda record: _remember(record, activity))
        except GoneError:  # it was changed, or deleted, in this very moment
            return
        log.info("%s: %d to %d instances, by %s", target.name, count, wanted, cause)
        self._endpoints.wake(endpoint)


def endpoint_and_variant(resource_id: str) -> tuple[str, str]:
    """Of endpoint/NAME/variant/VARIANT."""
    _, endpoint, _, variant = resource_id.split("/")
    return endpoint, variant


def targets_of(store: Store, endpoint: str) -> list[Record]:
    return [record for record in store.list(KIND) if endpoint_and_variant(record.name)[0] == endpoint]


def _remember(record: Record, activity: dict[str, Any]) -> None:
    record.internal["activities"] = [activity, *record.internal["activities"]][:_KEPT]
