"""The CloudWatch alarms that a deployment is to be watched by, looked at before anything is paid for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from retraining.environment import ConfigurationError
from retraining.job_kinds import DENIED
from retraining.release.watch import champion_latency_us
from retraining.requests.alarms import alarms

log = logging.getLogger(__name__)


def require_alarms(cloudwatch: Any, names: Sequence[str]) -> None:
    """ConfigurationError for alarms that are not there: UpdateEndpoint would refuse them when all else is paid for.

    One that is in ALARM now is told, for it would take the update back at once.
    """
    if not names:
        return
    answer = cloudwatch.describe_alarms(AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    found = {alarm["AlarmName"]: alarm for alarm in [*answer["MetricAlarms"], *answer.get("CompositeAlarms", [])]}
    if missing := [name for name in names if name not in found]:
        raise ConfigurationError(
            f"deployment.alarms: there is no CloudWatch alarm {', '.join(missing)} in {cloudwatch.meta.region_name}. "
            "Create it, or take its name out of the recipe."
        )
    for name in names:
        if found[name].get("StateValue") == "ALARM":
            log.warning("Alarm %s is in ALARM now: as long as it is, each update is rolled back.", name)


def require_alarm_rights(cloudwatch: Any, endpoint: str, tags: Sequence[Mapping[str, str]]) -> None:
    """ConfigurationError where alarms may not be made, set off, looked at or deleted: one of no metric is."""
    # One name for all runs: should one die in between, the next finds what it left.
    (trial,) = alarms(endpoint, f"{endpoint}-preflight", {}, None, tags)
    name = trial["AlarmName"]
    try:
        cloudwatch.put_metric_alarm(**trial)
        try:
            cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="preflight")
            cloudwatch.describe_alarms(AlarmNamePrefix=name)
            champion_latency_us(cloudwatch, endpoint)
        finally:
            cloudwatch.delete_alarms(AlarmNames=[name])
    except ClientError as error:
        if error.response["Error"]["Code"] not in DENIED:
            raise
        raise ConfigurationError(
            f"deployment: an update that bakes is watched by alarms of the run, and CloudWatch refuses them: {error} "
            "Allow cloudwatch:PutMetricAlarm, SetAlarmState, DeleteAlarms, DescribeAlarms, TagResource and "
            "GetMetricStatistics, or set bake_seconds: 0."
        ) from error
