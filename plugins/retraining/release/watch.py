"""A run watching its own update of an endpoint: alarms made for it, golden images asked while it bakes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any

from botocore.exceptions import ClientError

from retraining.release.canary import try_canary
from retraining.release.endpoint import describe_endpoint, is_baking
from retraining.release.golden import MAX_INSTANCES, choose, read_image
from retraining.requests.alarms import GOLDEN, LATENCY, alarm_name, alarms
from retraining.run import client

log = logging.getLogger(__name__)

LATENCY_DAYS = 7
MIN_LATENCIES = 20


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What the operators that change the endpoint are told of it; None of it is kept between tasks."""

    endpoint: str
    config: str
    """The endpoint configuration that the update leads to."""
    model: str
    bounds: Mapping[str, float]
    """Of the recipe: `deployment.max_…` → its value."""
    golden: Mapping[str, str]
    """Name of a test image → its class."""
    bucket: str
    images_key: str
    """Where these images are."""
    tags: Sequence[Mapping[str, str]]

    def make_alarms(self) -> list[str]:
        """Their names. Making them again changes nothing."""
        cloudwatch = client("cloudwatch")
        latency_us = champion_latency_us(cloudwatch, self.endpoint) if LATENCY in self.bounds else None
        if LATENCY in self.bounds and latency_us is None:
            log.warning("%s: too few requests in %d days to watch the latency by.", self.endpoint, LATENCY_DAYS)
        names = []
        for request in alarms(self.endpoint, self.config, self.bounds, latency_us, self.tags):
            cloudwatch.put_metric_alarm(**request)
            log.info("Alarm %s: %s", request["AlarmName"], request["AlarmDescription"])
            names.append(request["AlarmName"])
        return names

    def try_golden(self, runtime: Any, s3: Any, sagemaker: Any) -> dict[str, Any]:
        """What `try_canary` found."""

        def baking() -> bool:
            return is_baking(describe_endpoint(sagemaker, self.endpoint) or {})

        images = choose(self.golden, partial(read_image, s3, self.bucket, self.images_key))
        # Where few others ask, ours are the average that the alarm judges: several images in one request, which take
        # several times as long, would set it off. One by one, and as one pair, they still go the way of a list.
        together = 1 if LATENCY in self.bounds else MAX_INSTANCES
        return try_canary(runtime, self.endpoint, self.model, images, baking, together)


def take_back(config: str, wrong: str) -> None:
    """SageMaker is told, by an alarm made for it: while an update is going on, none can be asked for."""
    log.error("%s SageMaker is told to take the update back.", wrong)
    # At most 1,023 characters. An alarm without data keeps its state.
    client("cloudwatch").set_alarm_state(
        AlarmName=alarm_name(config, GOLDEN), StateValue="ALARM", StateReason=wrong[:1000]
    )


def champion_latency_us(cloudwatch: Any, endpoint: str) -> float | None:
    """What the models behind the endpoint took for a request on average, in microseconds.

    Of the newest day with 20 requests or more; None without one in the last week.
    """
    now = datetime.now(UTC)
    names = {"EndpointName": endpoint, "VariantName": "AllTraffic"}
    points = cloudwatch.get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName="ModelLatency",
        Dimensions=[{"Name": name, "Value": value} for name, value in names.items()],
        StartTime=now - timedelta(days=LATENCY_DAYS),
        EndTime=now + timedelta(minutes=1),
        Period=86_400,
        Statistics=["SampleCount", "Average"],
    )["Datapoints"]
    enough = [point for point in points if point["SampleCount"] >= MIN_LATENCIES]
    return float(max(enough, key=itemgetter("Timestamp"))["Average"]) if enough else None


def end_watch(config: str) -> list[str]:
    """Without the alarms of an update from here on; returns why those that rang did."""
    try:
        reasons = ringing(config)
        remove_alarms(config)
    except ClientError as error:  # what serves is right, or wrong, whatever CloudWatch says
        log.warning("The alarms %s-… are left behind, delete them: %s", config, error)
        return []
    return reasons


def ringing(config: str) -> list[str]:
    """The run's own alarms that are in ALARM, each with its reason."""
    found = client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{config}-", StateValue="ALARM")["MetricAlarms"]
    return [f"{alarm['AlarmName']}: {alarm.get('StateReason', 'no reason given')}" for alarm in found]


def remove_alarms(config: str) -> None:
    """All that were made for the update to an endpoint configuration; an alarm costs money as long as it exists."""
    cloudwatch = client("cloudwatch")
    found = cloudwatch.describe_alarms(AlarmNamePrefix=f"{config}-")["MetricAlarms"]
    if names := [alarm["AlarmName"] for alarm in found]:
        cloudwatch.delete_alarms(AlarmNames=names)
        log.info("Deleted the alarms %s.", ", ".join(names))
