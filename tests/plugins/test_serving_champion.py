"""A run compares with what serves: where champion.json names something else, it ends before anything is paid for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from retraining.creation import delete_once
from retraining.promotion.champion import own_champion
from retraining.release.agreement import disagreement
from retraining.release.drill import Drill
from retraining.release.endpoint import describe_endpoint
from retraining.release.first import UncomparedPromotion
from retraining.release.lifetime import Lifetime
from retraining.release.rollback import Rollback
from retraining.run import Run
from retraining.steps import needs_retraining
from retraining.steps.champion import DrillUnderWay, EndpointBroken, ModelLost, NothingServes
from tests.plugins.release_run import Runs, approval, delete_endpoint, deploy, promote, roll_back, served
from tests.plugins.task_run import IMAGE, ROLE


@pytest.fixture
def champions(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Run, Run]]:
    """Two that were promoted, one after the other."""
    monkeypatch.setenv("RETRAINING_POLL_SECONDS", "0.1")
    first, second = runs(1), runs(2)
    promote(first)
    promote(second)
    yield first, second
    delete_once(second.sagemaker.delete_endpoint, {"EndpointName": second.plan.endpoint})


def champion(run: Run) -> dict[str, Any]:
    return own_champion(run.s3, run.plan).document or {}


def name(run: Run, document: dict[str, Any]) -> None:
    """champion.json as it was before, or as a person wrote it."""
    run.write_json(run.plan.champion_key, document)


def kept(run: Run) -> dict[str, Any]:
    return dict(run.read_json(run.plan.past_champion_key(run.plan.run_name)))


def back(run: Run) -> Rollback:
    return Rollback(s3=run.s3, sagemaker=run.sagemaker, runtime=run.runtime, scaling=run.scaling, plan=run.plan)


def pushed(run: Run, key: str) -> Any:
    facts: Any = run.context["ti"]
    return facts.known[f"pushed.{key}"]


def serve(run: Run, config: str, model: str, machine: str = "ml.m5.large") -> None:
    """The endpoint on a configuration that a person made."""
    variant = {"VariantName": "AllTraffic", "ModelName": model, "InstanceType": machine, "InitialInstanceCount": 1}
    run.sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=[variant])
    run.sagemaker.update_endpoint(EndpointName=run.plan.endpoint, EndpointConfigName=config)
    waiter = run.sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName=run.plan.endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def make_model(run: Run, model: str, artifact: str) -> None:
    container = {"Image": IMAGE, "ModelDataUrl": artifact}
    run.sagemaker.create_model(ModelName=model, ExecutionRoleArn=ROLE, PrimaryContainer=container)


def test_another_model_that_serves_stops_a_run(champions: tuple[Run, Run], runs: Runs) -> None:
    first, second = champions
    name(first, kept(first))
    told = rf"names {first.plan.run_name}, but endpoint .* serves {second.plan.run_name} since 20.*rollback .* --to RUN"
    with pytest.raises(UncomparedPromotion, match=told):
        needs_retraining(runs(3))
    rollback = back(second)
    rollback.go_back(rollback.choose(second.plan.run_name), reason="it serves", by="ada")
    assert needs_retraining(runs(3))


def meant(first: Run, runs: Runs) -> Run:
    """A run that is to replace what serves, although champion.json names the first champion."""
    name(first, kept(first))
    run = runs(3)
    run.params["first_promotion"] = True
    assert needs_retraining(run)
    return run


def test_a_person_may_mean_to_replace_it(champions: tuple[Run, Run], runs: Runs) -> None:
    first, second = champions
    run = meant(first, runs)
    assert pushed(run, "champion")["document"] is None
    assert [sign.partition(" since ")[0] for sign in pushed(run, "need")["uncompared"]] == [
        f"endpoint {run.plan.endpoint} serves {second.plan.endpoint_config}"
    ]


def test_what_a_failed_release_replaced_is_given_back(champions: tuple[Run, Run], runs: Runs) -> None:
    """What served, and not the champion that it was not compared with either."""
    first, second = champions
    run = meant(first, runs)
    facts: Any = run.context["ti"]
    facts.known["needs_retraining.champion"] = pushed(run, "champion")
    deploy(run)
    assert roll_back(run)["config"] == second.plan.endpoint_config == served(run)


def test_other_machines_are_no_other_model(champions: tuple[Run, Run], runs: Runs) -> None:
    run = champions[1]
    serve(run, f"{run.plan.run_name}-large", run.plan.model, "ml.c5.xlarge")
    assert needs_retraining(runs(3))
    make_model(run, f"{run.plan.model}-again", run.model_data_url)
    serve(run, f"{run.plan.run_name}-again", f"{run.plan.model}-again")
    assert needs_retraining(runs(4))


def test_a_model_made_by_hand_stops_a_run(champions: tuple[Run, Run], runs: Runs) -> None:
    run = champions[1]
    make_model(run, f"{run.plan.model}-hand", champions[0].model_data_url)
    serve(run, f"{run.plan.run_name}-hand", f"{run.plan.model}-hand")
    with pytest.raises(UncomparedPromotion, match=rf"serves {run.plan.run_name}-hand since"):
        needs_retraining(runs(3))


def test_an_update_under_way_is_no_agreement(champions: tuple[Run, Run]) -> None:
    first, second = champions
    seen = describe_endpoint(second.sagemaker, second.plan.endpoint) or {}
    scaled = seen | {"EndpointStatus": "Updating"}
    assert disagreement(second.sagemaker, champion(second), scaled) == ""
    for leads_to in (first.plan.endpoint_config, "gone"):
        updated = scaled | {"PendingDeploymentSummary": {"EndpointConfigName": leads_to}}
        told = f"is Updating, from {second.plan.endpoint_config} to {leads_to}"
        assert disagreement(second.sagemaker, champion(second), updated).endswith(told)


def test_an_endpoint_that_failed_is_trained_for_no_more(runs: Runs) -> None:
    run = runs(1)
    with pytest.raises(AirflowFailException):
        deploy(run, refuses="yes")
    with pytest.raises(
        EndpointBroken, match=r"is Failed: .*nothing is trained for it. Delete it and run again: aws sa"
    ):
        needs_retraining(runs(2))
    run.sagemaker.delete_endpoint(EndpointName=run.plan.endpoint)


# --- no endpoint ----------------------------------------------------------------------------------------------------


def unchanged(run: Run, before: Run) -> Run:
    """A run that finds nothing new since the champion `before`."""
    facts: Any = run.context["ti"]
    facts.known["preflight.return_value"]["code"] = before.ingredients.code
    return run


def test_a_champion_without_an_endpoint_is_no_green_week(champions: tuple[Run, Run], runs: Runs) -> None:
    run = champions[1]
    delete_endpoint(run)
    told = rf"^Nothing serves behind endpoint {run.plan.endpoint}: it does not exist. `python -m retraining rollback "
    with pytest.raises(NothingServes, match=told) as refusal:
        needs_retraining(unchanged(runs(3), run))
    assert f"--to {run.plan.run_name}" in str(refusal.value)
    back(run).go_back(run.plan.run_name, reason="it is missed", by="ada")
    assert served(run) == run.plan.endpoint_config
    assert needs_retraining(unchanged(runs(3), run)) is False


def test_new_data_make_an_endpoint_again(champions: tuple[Run, Run], runs: Runs) -> None:
    delete_endpoint(champions[1])
    run = runs(3)
    assert needs_retraining(run)
    assert pushed(run, "need")["nothing_serves"].startswith("nothing serves behind endpoint ")


def test_an_endpoint_that_the_janitor_deleted_is_meant(champions: tuple[Run, Run], runs: Runs) -> None:
    run, lifetime = champions[1], Lifetime(s3=champions[1].s3, plan=champions[1].plan)
    delete_endpoint(run)
    run.write_json(run.plan.lifetime_key, {"extended": "2026-11-01", "told": None, "deleted": "2026-11-02T03:00"})
    for _ in range(2):  # weeks
        week = unchanged(runs(3), run)
        assert needs_retraining(week) is False
        assert ": the janitor deleted it at 2026-11-02T03:00" in pushed(week, "need")["reason"]
        lifetime.extend(datetime.now(UTC))


# --- the champion's Model --------------------------------------------------------------------------------------------


def test_a_champions_model_that_was_deleted_is_made_again(champions: tuple[Run, Run], runs: Runs) -> None:
    run, model = champions[1], {"ModelName": champions[1].plan.model}
    made = run.sagemaker.describe_model(**model)["PrimaryContainer"]
    run.sagemaker.delete_model(**model)
    assert needs_retraining(runs(3))
    assert run.sagemaker.describe_model(**model)["PrimaryContainer"] == made


@pytest.mark.parametrize("other", [False, True], ids=["its image is not known", "another one has its name"])
def test_a_model_that_cannot_be_had_costs_no_training(champions: tuple[Run, Run], runs: Runs, other: bool) -> None:
    run = champions[1]
    if not other:
        name(run, champion(run) | {"image": None})
        assert needs_retraining(runs(3))  # it is there
    run.sagemaker.delete_model(ModelName=run.plan.model)
    if other:
        make_model(run, run.plan.model, champions[0].model_data_url)
    told = "its artifact is s3" if other else "lacks image, so its Model"
    with pytest.raises(ModelLost, match=rf"{told}.* Nothing was trained.*rollback"):
        needs_retraining(runs(3))


# --- a drill that was killed half way -------------------------------------------------------------------------------


@pytest.fixture
def half_way(champions: tuple[Run, Run]) -> tuple[Run, Run]:
    """The first serves, and is the champion until the drill is over."""
    first, second = champions
    drill = Drill(rollback=back(second))
    drill._leave(own_champion(second.s3, second.plan), first.plan.run_name, {"reason": "monthly", "by": "ada"})
    return first, second


def test_a_drill_is_ended_before_a_run_compares(half_way: tuple[Run, Run], runs: Runs) -> None:
    first, second = half_way
    told = (
        rf"{first.plan.run_name} serves until it comes back to the champion {second.plan.run_name}, .*retraining drill"
    )
    run = runs(3)
    run.params["first_promotion"] = True
    for asked in (run, runs(3)):
        with pytest.raises(DrillUnderWay, match=told):
            needs_retraining(asked)
    drill = Drill(rollback=back(second))
    drill.perform(drill.choose(), reason="end it", by="ada")
    assert needs_retraining(runs(3))
    assert champion(second)["run_name"] == second.plan.run_name


@pytest.mark.parametrize("to", [0, 1], ids=["the drilled one", "the champion"])
def test_a_rollback_ends_a_drill_too(half_way: tuple[Run, Run], runs: Runs, to: int) -> None:
    """The champion is rejected where it is the one that is left; the drilled one never was anybody's choice."""
    run = half_way[to]
    back(run).go_back(run.plan.run_name, reason="bad", by="ada")
    assert (served(run), champion(run)["run_name"]) == (run.plan.endpoint_config, run.plan.run_name)
    assert "drill" not in champion(run)
    assert [approval(one) for one in half_way] == ["Approved", "Approved" if to else "Rejected"]
    assert needs_retraining(runs(3))
