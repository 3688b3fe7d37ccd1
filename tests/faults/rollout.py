"""An update of an endpoint by the clock: when its fresh fleet starts, has requests, bakes, and has taken over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

START_S = 300
BACK_S = 120
"""What it takes until all requests are with the old fleet again."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Blue/green, as SageMaker's BlueGreenUpdatePolicy says it; all at once and watched by nobody without one."""

    config: str
    began: float
    shares: tuple[float, ...] = (1.0,)
    """Of the requests, after each shift."""
    wait_s: float = 0
    termination_s: float = 0
    alarms: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: str, began: float, asked: Mapping[str, Any]) -> Rollout:
        """`asked`: the DeploymentConfig of an UpdateEndpoint."""
        policy = asked.get("BlueGreenUpdatePolicy", {})
        routing = policy.get("TrafficRoutingConfiguration", {"Type": "ALL_AT_ONCE"})
        step = (routing.get("CanarySize") or routing.get("LinearStepSize") or {"Value": 100})["Value"] / 100
        steps = {"ALL_AT_ONCE": [], "CANARY": [step], "LINEAR": [n * step for n in range(1, math.ceil(1 / step))]}
        return cls(
            config=config, began=began, shares=(*steps[routing["Type"]], 1.0),
            wait_s=routing.get("WaitIntervalInSeconds", 0), termination_s=policy.get("TerminationWaitInSeconds", 0),
            alarms=tuple(one["AlarmName"] for one in asked.get("AutoRollbackConfiguration", {}).get("Alarms", [])),
        )  # fmt: skip

    @property
    def started(self) -> float:
        """When the fresh fleet has started, or has not."""
        return self.began + START_S

    @property
    def ends(self) -> float:
        return self.started + self.wait_s * len(self.shares) + self.termination_s

    def bakes(self, now: float) -> bool:
        """Whether the fresh fleet has requests and is watched."""
        return self.started <= now < self.ends

    def share(self, now: float) -> float:
        """Of the requests that go to the fresh fleet."""
        if now < self.started:
            return 0.0
        shifts = int((now - self.started) // self.wait_s) if self.wait_s else len(self.shares)
        return self.shares[min(shifts, len(self.shares) - 1)]
