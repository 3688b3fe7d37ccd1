"""A recipe's endpoint gets another name: the former one serves on, is told of, and loses nothing that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from retraining.creation import delete_once
from retraining.promotion.champion import own_champion
from retraining.release.rollback import Rollback
from retraining.run import Run
from retraining.steps import needs_retraining, prune
from retraining.steps.champion import NothingServes
from tests.plugins.release_run import Runs, deploying, promote, register, served
from tests.plugins.task_run import context, finish

Renamed = Callable[[int], Run]


@pytest.fixture
def first(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """It serves behind the name that the recipe had then."""
    monkeypatch.setenv("RETRAINING_POLL_SECONDS", "0.1")
    run = runs(1)
    promote(run)
    yield run
    for name in (run.plan.endpoint, f"{run.plan.endpoint}-new"):
        delete_once(run.sagemaker.delete_endpoint, {"EndpointName": name})


@pytest.fixture
def renamed(runs: Runs) -> Renamed:
    """renamed(number): a run whose recipe names another endpoint."""

    def make(number: int) -> Run:
        run = runs(number)
        run.recipe = replace(run.recipe, endpoint=f"{run.recipe.endpoint}-new")
        run.plan = replace(run.plan, recipe=run.recipe)
        return run

    return make


def pruned(renamed: Renamed) -> tuple[Run, dict[str, list[str]]]:
    """After five more models, each of which was to serve behind the new name."""
    for number in range(2, 7):
        register(run := renamed(number))
    finish(deploying(run), context())
    return run, prune(run)


def test_a_former_endpoint_keeps_what_it_serves(first: Run, renamed: Renamed) -> None:
    run, removed = pruned(renamed)
    assert removed["EndpointConfig"] == removed["Model"] == [renamed(3).plan.run_name, renamed(2).plan.run_name]
    assert served(first) == first.plan.endpoint_config
    assert first.sagemaker.describe_endpoint_config(EndpointConfigName=first.plan.endpoint_config)
    told: Any = run.context["ti"]
    assert told.known["pushed.elsewhere"] == [{"endpoint": first.plan.endpoint, "config": first.plan.endpoint_config}]


def test_a_persons_endpoint_keeps_its_model(first: Run, runs: Runs) -> None:
    """Behind a name, and by a configuration, of their own."""
    sagemaker, name = first.sagemaker, f"{first.plan.endpoint}-demo"
    register(runs(2))
    variant = {"VariantName": "v", "ModelName": runs(2).plan.model, "InstanceType": "ml.m5.large"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant | {"InitialInstanceCount": 1}]
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    for number in range(3, 7):
        register(runs(number))
    removed = prune(runs(6))
    assert removed["Model"] == [runs(3).plan.model]
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    sagemaker.delete_endpoint(EndpointName=name)


def test_endpoints_that_may_not_be_listed_remove_nothing(first: Run, renamed: Renamed) -> None:
    def denied(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ListEndpoints")

    event = "before-parameter-build.sagemaker.ListEndpoints"
    first.sagemaker.meta.events.register(event, denied)
    try:
        assert pruned(renamed)[1] == {"EndpointConfig": [], "Model": []}
    finally:
        first.sagemaker.meta.events.unregister(event, denied)


def test_a_new_name_is_served_without_a_training(first: Run, renamed: Renamed) -> None:
    run = renamed(2)
    facts: Any = run.context["ti"]
    facts.known["preflight.return_value"]["code"] = first.ingredients.code
    told = rf"^Nothing serves behind endpoint {run.plan.endpoint}: .* {first.plan.endpoint} before, which serves still"
    with pytest.raises(NothingServes, match=rf"{told} .*delete-endpoint --endpoint-name {first.plan.endpoint}`"):
        needs_retraining(run)
    back = Rollback(s3=run.s3, sagemaker=run.sagemaker, runtime=run.runtime, scaling=run.scaling, plan=run.plan)
    back.go_back(first.plan.run_name, reason="renamed", by="ada")
    assert served(run) == first.plan.endpoint_config
    assert (own_champion(run.s3, run.plan).document or {})["endpoint"] == run.plan.endpoint
    assert needs_retraining(run) is False
