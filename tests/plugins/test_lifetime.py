"""An endpoint that nobody uses is told of and deleted; whatever speaks against it keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from retraining.recipe.machines import Serving
from retraining.release.lifetime import Lifetime, Look
from retraining.release.rollback import Rollback
from retraining.run import Run, client
from retraining.steps import janitor, look_after, outcome
from retraining.steps.janitor import EndpointEnds
from tests.plugins.release_run import Runs, deploy, promote, served

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
IDLE = NOW + timedelta(days=2)
"""No request has been sent so late."""


def of_an_hour(run: Run) -> Run:
    run.recipe = replace(run.recipe, serving=Serving(ttl_hours=1))
    run.plan = replace(run.plan, recipe=run.recipe)
    return run


@pytest.fixture
def run(runs: Runs) -> Iterator[Run]:
    """Its model serves; its hour began long before IDLE."""
    promoted = of_an_hour(runs(1))
    promote(promoted)
    lifetime(promoted).extend(NOW)
    yield promoted
    for endpoint in [promoted.plan.endpoint] if served(promoted) else []:
        wait(promoted, "endpoint_in_service")
        promoted.sagemaker.delete_endpoint(EndpointName=endpoint)


def lifetime(run: Run) -> Lifetime:
    return Lifetime(s3=run.s3, plan=run.plan)


def look(run: Run, at: datetime) -> Look:
    return lifetime(run).look(run.sagemaker, client("cloudwatch"), at)


def wait(run: Run, what: str) -> None:
    waiter = run.sagemaker.get_waiter(what)
    waiter.wait(EndpointName=run.plan.endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_an_unused_endpoint_is_told_of_a_day_before_it_goes(run: Run) -> None:
    told = look(run, IDLE)
    assert (told.done, served(run)) == ("told", run.plan.endpoint_config)
    assert "had no request and no successful run for 1 hours, and is deleted at" in told.why
    assert look(run, IDLE + 23 * HOUR).done == "kept"
    assert look(run, IDLE + 25 * HOUR).done == "deleted"
    wait(run, "endpoint_deleted")
    assert look(run, IDLE + 26 * HOUR) == Look(done="kept", why="there is no endpoint")


def test_the_champion_of_a_deleted_endpoint_serves_again(run: Run) -> None:
    look(run, IDLE)
    look(run, IDLE + 25 * HOUR)
    wait(run, "endpoint_deleted")
    plan = replace(run.plan, environment=replace(run.environment, poll_seconds=0.1))
    back = Rollback(s3=run.s3, sagemaker=run.sagemaker, runtime=run.runtime, scaling=run.scaling, plan=plan)
    back.go_back(run.plan.run_name, reason="needed again", by="ada")
    assert served(run) == run.plan.endpoint_config
    assert look(run, IDLE + 26 * HOUR).done == "told"  # of this one nothing has been told


def test_who_deletes_what_was_made_again_is_no_janitor(run: Run) -> None:
    look(run, IDLE)
    look(run, IDLE + 25 * HOUR)
    wait(run, "endpoint_deleted")
    assert lifetime(run).deleted == (IDLE + 25 * HOUR).isoformat(timespec="seconds")
    deploy(run)
    look(run, IDLE + 26 * HOUR)
    assert lifetime(run).deleted is None


def test_a_request_keeps_an_endpoint(run: Run) -> None:
    lifetime(run).extend(NOW - timedelta(days=9))
    assert look(run, NOW - timedelta(days=2)).done == "told"
    found = look(run, datetime.now(UTC))  # its golden images of today
    assert found.done == "kept" and "requests since" in found.why
    assert look(run, IDLE).done == "told"  # and its end would be told again


def test_a_successful_run_keeps_an_endpoint(run: Run) -> None:
    assert look(run, IDLE).done == "told"
    lifetime(run).extend(IDLE + 23 * HOUR)
    assert "the last successful run keeps it until" in look(run, IDLE + 23.5 * HOUR).why
    assert look(run, IDLE + 25 * HOUR).done == "told"


def test_a_run_that_ends_in_between_keeps_an_endpoint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    look(run, IDLE)
    written: Callable[..., Any] = run.s3.put_object

    def after_another(**kwargs: Any) -> Any:
        monkeypatch.undo()
        lifetime(run).extend(IDLE)
        return written(**kwargs)

    monkeypatch.setattr(run.s3, "put_object", after_another)
    assert look(run, IDLE + 25 * HOUR) == Look(done="kept", why="a run ended just now")
    assert served(run) == run.plan.endpoint_config


def without_a_limit(run: Run, runs: Runs) -> None:
    run.plan = replace(run.plan, recipe=replace(run.recipe, serving=Serving()))


def never_counted(run: Run, runs: Runs) -> None:
    run.s3.delete_object(Bucket=run.environment.bucket, Key=run.plan.lifetime_key)


def on_another_configuration(run: Run, runs: Runs) -> None:
    deploy(runs(2))


def with_a_lost_champion(run: Run, runs: Runs) -> None:
    run.s3.put_object(Bucket=run.environment.bucket, Key=run.plan.champion_key, Body=b"{")


def in_a_drill(run: Run, runs: Runs) -> None:
    champion = run.read_json(run.plan.champion_key)
    run.write_json(run.plan.champion_key, champion | {"drill": {"back_to": champion}})


def of_another_deployment(run: Run, runs: Runs) -> None:
    found = run.sagemaker.describe_endpoint_config(EndpointConfigName=run.plan.endpoint_config)
    tags = [{"Key": "retraining:bucket", "Value": "theirs"}]
    run.sagemaker.add_tags(ResourceArn=found["EndpointConfigArn"], Tags=tags)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (without_a_limit, "sets no serving.ttl_hours"),
        (never_counted, "its 1 hours begin now"),
        (on_another_configuration, "which is not the champion's"),
        (with_a_lost_champion, "whose it is is not certain"),
        (in_a_drill, "a drill is under way"),
        (of_another_deployment, "is not of this deployment"),
    ],
)
def test_what_is_not_certain_keeps_an_endpoint(
    run: Run, runs: Runs, made: Callable[[Run, Runs], None], why: str
) -> None:
    made(run, runs)
    found = look(run, IDLE)
    assert found.done == "kept" and why in found.why


def test_the_task_fails_once_to_tell(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return IDLE

    assert look_after(run)["done"] == "kept"
    monkeypatch.setattr(janitor, "datetime", Later)
    with pytest.raises(EndpointEnds, match=f"Endpoint {run.plan.endpoint} is not needed any more: it had no request"):
        look_after(run)
    assert look_after(run)["done"] == "kept"


def test_a_run_that_succeeds_extends_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    facts: Any = run.context["ti"]
    facts.known["needs_retraining.need"] = {"needed": False, "reason": "nothing new"}
    facts.get_task_states = lambda **_: {}
    run.context["dag"] = SimpleNamespace(dag_id="retrain", topological_sort=list)  # type: ignore[typeddict-item]
    lifetime(run).extend(NOW - timedelta(days=9))
    assert outcome(run) == "skipped"
    assert run.read_json(run.plan.lifetime_key)["extended"] >= NOW.isoformat(timespec="seconds")
