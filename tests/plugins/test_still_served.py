"""What serves while a release is tested is what was released."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import TaskDeferred

from retraining.release.served import EndpointMoved, while_serving
from retraining.run import Run
from retraining.steps import update_champion
from tests.plugins.release_run import (
    Runs,
    deploy,
    deploying,
    register,
    roll_back,
)
from tests.plugins.task_run import context, wait_for


def test_a_cleared_smoke_test_notices_the_rollback(runs: Runs) -> None:
    champion, failed = runs(1), runs(2)
    deploy(champion)
    update_champion(champion)
    deploy(failed)
    roll_back(failed)
    asked: list[Run] = []
    with pytest.raises(EndpointMoved, match=f"is InService on {champion.plan.endpoint_config}; this run's model"):
        while_serving(asked.append)(failed)
    assert asked == []
    with pytest.raises(EndpointMoved):
        update_champion(failed)


def test_a_change_during_the_smoke_test_is_noticed(runs: Runs) -> None:
    run, later = runs(1), runs(2)
    deploy(run)
    with pytest.raises(EndpointMoved, match="Nothing is promoted"):
        while_serving(lambda _: deploy(later))(run)


def test_an_endpoint_in_mid_update_is_not_tested(runs: Runs) -> None:
    """As after `deploy` was marked as a success while it waited."""
    before, run = runs(1), runs(2)
    deploy(before)
    register(run)
    with pytest.raises(TaskDeferred) as wait:
        deploying(run).execute(context())
    with pytest.raises(EndpointMoved, match="is Updating on"):
        while_serving(lambda _: None)(run)
    wait_for(wait.value.trigger)


@pytest.mark.parametrize("status", ["Updating", "SystemUpdating"])
def test_an_endpoint_that_is_scaled_or_patched_serves(runs: Runs, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    run = runs(1)
    deploy(run)
    described = run.sagemaker.describe_endpoint(EndpointName=run.plan.endpoint)
    monkeypatch.setattr(run.sagemaker, "describe_endpoint", lambda **_: described | {"EndpointStatus": status})
    assert while_serving(lambda _: "tested")(run) == "tested"


def test_a_deleted_endpoint_is_told_as_such(runs: Runs) -> None:
    with pytest.raises(EndpointMoved, match="does not exist"):
        while_serving(lambda _: None)(runs(1))
