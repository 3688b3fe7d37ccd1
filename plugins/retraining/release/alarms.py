"""The CloudWatch alarms that a deployment is watched by."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from retraining.environment import ConfigurationError

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
