"""A DeploymentConfig becomes steps, or is refused as AWS refuses it."""

from __future__ import annotations

from typing import Any

import pytest

from local_sagemaker.hosting.plan import Plan
from local_sagemaker.wire.errors import ApiError


def blue_green(kind: str, **members: Any) -> dict[str, Any]:
    """Waits 60 s between steps; sizes and limits by their AWS names."""
    routing = {"Type": kind, "WaitIntervalInSeconds": 60}
    routing |= {key: members.pop(key) for key in ("CanarySize", "LinearStepSize") if key in members}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, **members}}


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def instances(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


def rolling(size: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": 60, **members}}


@pytest.mark.parametrize(
    ("config", "shares"),
    [
        (None, [1.0]),
        (blue_green("ALL_AT_ONCE"), [1.0]),
        (blue_green("CANARY", CanarySize=percent(30)), [0.3, 1.0]),
        (blue_green("CANARY", CanarySize=instances(1)), [0.25, 1.0]),
        (blue_green("LINEAR", LinearStepSize=percent(40)), [0.4, 0.8, 1.0]),
        (blue_green("LINEAR", LinearStepSize=instances(1)), [0.25, 0.5, 0.75, 1.0]),
        (blue_green("LINEAR", LinearStepSize=percent(10)), [number / 10 for number in range(1, 11)]),
        (rolling(instances(2)), [0.5, 1.0]),
    ],
)
def test_shares_grow_step_by_step(config: dict[str, Any] | None, shares: list[float]) -> None:
    plan = Plan.of(config, [4])
    assert [step.share for step in plan.steps] == pytest.approx(shares)
    assert all(step.wait_s == (60 if config else 0) for step in plan.steps)


def test_rolling_update_starts_its_workers_batch_by_batch() -> None:
    assert [step.capacity for step in Plan.of(rolling(percent(50)), [4]).steps] == [0.5, 1.0]
    assert [step.capacity for step in Plan.of(blue_green("CANARY", CanarySize=percent(50)), [4]).steps] == [1, 1]


def test_smallest_variant_bounds_an_instance_count() -> None:
    with pytest.raises(ApiError, match=r"1 of 1 instance\(s\)"):
        Plan.of(blue_green("CANARY", CanarySize=instances(1)), [4, 1])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (blue_green("CANARY"), "needs a CanarySize"),
        (blue_green("LINEAR", CanarySize=percent(10)), "cannot have a CanarySize"),
        (blue_green("ALL_AT_ONCE", CanarySize=percent(10)), "cannot have a CanarySize"),
        (blue_green("CANARY", CanarySize=percent(51)), "from 0 to 50 percent"),
        (blue_green("CANARY", CanarySize=instances(3)), "3 of 4 instance"),
        (blue_green("LINEAR", LinearStepSize=percent(9)), "from 10 to 50 percent"),
        (rolling(percent(4)), "from 5 to 50 percent"),
        (rolling(percent(60)), "from 5 to 50 percent"),
        (rolling(percent(50), RollbackMaximumBatchSize=percent(101)), "RollbackMaximumBatchSize"),
        (rolling(percent(50)) | blue_green("ALL_AT_ONCE"), "not both"),
        (
            blue_green("ALL_AT_ONCE", TerminationWaitInSeconds=600, MaximumExecutionTimeoutInSeconds=600),
            "larger than the total waiting time",
        ),
    ],
)
def test_what_aws_refuses_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        Plan.of(config, [4])
    assert caught.value.code == "ValidationException"
