"""CloudWatch in memory: alarms, and how long the model that serves takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.faults.clock import Clock
from tests.faults.wire import Refusal

Document = dict[str, Any]
LATENCY_US = 50_000.0


class CloudWatch:
    """Alarms by their name. Metrics are of nobody: an alarm rings when it is told to."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.alarms: dict[str, Document] = {}

    def answer(self, operation: str, request: Mapping[str, Any]) -> Document:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower()
        return dict(getattr(self, f"_{name}")(request))

    def ring(self, name: str, reason: str) -> None:
        self.alarms[name] |= {"StateValue": "ALARM", "StateReason": reason}

    def ringing(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if self.alarms.get(name, {}).get("StateValue") == "ALARM"]

    def _put_metric_alarm(self, request: Mapping[str, Any]) -> Document:
        """An alarm that is made again keeps its state."""
        before = self.alarms.get(request["AlarmName"], {})
        self.alarms[request["AlarmName"]] = {"StateValue": "INSUFFICIENT_DATA"} | before | dict(request)
        return {}

    def _set_alarm_state(self, request: Mapping[str, Any]) -> Document:
        if request["AlarmName"] not in self.alarms:
            raise Refusal("ResourceNotFound", f"Unknown alarm {request['AlarmName']}")
        self.alarms[request["AlarmName"]] |= {key: request[key] for key in ("StateValue", "StateReason")}
        return {}

    def _describe_alarms(self, request: Mapping[str, Any]) -> Document:
        names, prefix = request.get("AlarmNames"), request.get("AlarmNamePrefix", "")
        found = [
            {key: value for key, value in alarm.items() if key != "Tags"}
            for name, alarm in self.alarms.items()
            if (name in names if names else name.startswith(prefix))
            and request.get("StateValue") in (None, alarm["StateValue"])
        ]
        return {"MetricAlarms": found, "CompositeAlarms": []}

    def _delete_alarms(self, request: Mapping[str, Any]) -> Document:
        """All of them, or none where one is not there."""
        if missing := [name for name in request["AlarmNames"] if name not in self.alarms]:
            raise Refusal("ResourceNotFound", f"Unknown alarms {missing}", 404)
        for name in request["AlarmNames"]:
            del self.alarms[name]
        return {}

    def _get_metric_statistics(self, request: Mapping[str, Any]) -> Document:
        return {"Datapoints": [{"Timestamp": self.clock.now, "SampleCount": 5000.0, "Average": LATENCY_US}]}
