"""What a DeploymentConfig asks for: the steps in which a fresh fleet takes over an endpoint's requests. Pure.

A capacity of 30 % is 30 % of the requests here, whatever the number of instances; AWS rounds up to whole instances, so
that a canary on one instance is all at once there. A rolling update starts its workers batch by batch, as on AWS, and
ends the old ones together with the deployment instead of batch by batch: they are this machine's way back.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from local_sagemaker.wire.errors import validation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    capacity: float
    """The part of the fresh fleet's workers that must have started."""
    share: float
    """The part of the requests that goes to them."""
    wait_s: float
    """How long alarms are watched before the next step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    steps: tuple[Step, ...]
    termination_wait_s: float = 0.0
    """How long the old fleet is kept after the last step, alarms being watched."""
    timeout_s: float = math.inf
    """MaximumExecutionTimeoutInSeconds."""
    alarms: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: dict[str, Any] | None, instance_counts: Iterable[int]) -> Plan:
        """`instance_counts` are those of the new variants. Raises a ValidationException for a config AWS refuses."""
        config = config or {}
        smallest = min(instance_counts)
        given = config.get("AutoRollbackConfiguration", {}).get("Alarms", [])
        if any("AlarmName" not in alarm for alarm in given):
            raise validation("AutoRollbackConfiguration: each of the Alarms must have an AlarmName.")
        alarms = tuple(alarm["AlarmName"] for alarm in given)
        blue_green, rolling = config.get("BlueGreenUpdatePolicy"), config.get("RollingUpdatePolicy")
        if blue_green and rolling:
            raise validation("DeploymentConfig: give either BlueGreenUpdatePolicy or RollingUpdatePolicy, not both.")
        if rolling:
            return dataclasses.replace(_rolling(rolling, smallest), alarms=alarms)
        if blue_green:
            return dataclasses.replace(_blue_green(blue_green, smallest), alarms=alarms)
        return cls(steps=(Step(capacity=1, share=1, wait_s=0),), alarms=alarms)


def _blue_green(policy: dict[str, Any], instance_count: int) -> Plan:
    routing = policy["TrafficRoutingConfiguration"]
    kind, wait_s = routing["Type"], routing["WaitIntervalInSeconds"]
    sizes = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}
    for its_kind, member in sizes.items():
        if (kind == its_kind) != (member in routing):
            verb = "needs" if kind == its_kind else "cannot have"
            raise validation(f"TrafficRoutingConfiguration of Type {kind} {verb} a {member}.")
    shares = [1.0]
    if kind == "CANARY":
        shares = [_part(routing["CanarySize"], "CanarySize", instance_count, 0, 50), 1.0]
    elif kind == "LINEAR":
        step = _part(routing["LinearStepSize"], "LinearStepSize", instance_count, 10, 50)
        shares = _multiples(step)
    plan = Plan(
        steps=tuple(Step(capacity=1, share=share, wait_s=wait_s) for share in shares),
        termination_wait_s=policy.get("TerminationWaitInSeconds", 0),
        timeout_s=policy.get("MaximumExecutionTimeoutInSeconds", math.inf),
    )
    _check_timeout(plan.timeout_s, wait_s + plan.termination_wait_s, "TerminationWaitInSeconds and ")
    return plan


def _rolling(policy: dict[str, Any], instance_count: int) -> Plan:
    if "RollbackMaximumBatchSize" in policy:
        _part(policy["RollbackMaximumBatchSize"], "RollbackMaximumBatchSize", instance_count, 0, 100)
    batch = _part(policy["MaximumBatchSize"], "MaximumBatchSize", instance_count, 5, 50)
    wait_s = policy["WaitIntervalInSeconds"]
    timeout_s = policy.get("MaximumExecutionTimeoutInSeconds", math.inf)
    _check_timeout(timeout_s, wait_s, "")
    return Plan(
        steps=tuple(Step(capacity=share, share=share, wait_s=wait_s) for share in _multiples(batch)),
        timeout_s=timeout_s,
    )


def _part(size: dict[str, Any], member: str, instance_count: int, least: int, most: int) -> float:
    """A CapacitySize as a part of the whole; bounds are in percent."""
    value = size["Value"]
    if size["Type"] == "CAPACITY_PERCENT":
        percent, said = float(value), f"{value} percent"
    else:
        percent, said = 100 * value / instance_count, f"{value} of {instance_count} instance(s)"
    if not least <= percent <= most:
        raise validation(
            f"{member} is {said}; it must be from {least} to {most} percent of the variant's total instance count."
        )
    return percent / 100


def _multiples(step: float) -> list[float]:
    """step, 2 · step, …, 1."""
    count = math.ceil(1 / step - 1e-9)
    return [min(1.0, step * number) for number in range(1, count)] + [1.0]


def _check_timeout(timeout_s: float, waits_s: float, what: str) -> None:
    # AWS says that it "should be larger than the total waiting time"; one interval is the least that this can mean.
    if timeout_s <= waits_s:
        raise validation(
            f"MaximumExecutionTimeoutInSeconds is {timeout_s:.0f}; it must be larger than the total waiting time of "
            f"{what}WaitIntervalInSeconds ({waits_s:.0f})."
        )
