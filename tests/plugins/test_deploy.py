"""An endpoint is asked for once, checked by what SageMaker says, and left alone by whoever came too late."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from retraining.identity import NameTaken
from retraining.intent import Intent, Intents
from retraining.recipe.capture import Capture
from retraining.release.artifact import ArtifactChanged
from retraining.release.package import PackageRejected
from retraining.run import Run
from retraining.s3.listing import list_keys
from retraining.steps import task_requests, update_champion
from tests.plugins.release_run import (
    Runs,
    between_look_and_request,
    deploy,
    deploying,
    die_before_asking,
    modified,
    put_artifact,
    register,
    roll_back,
    rolling_back,
    served,
)
from tests.plugins.task_run import archive, context, finish, wait_for
from tests.waiting import wait_until


@pytest.mark.parametrize(
    ("keep", "kept"), [("both", ["endpointInput", "endpointOutput"]), ("answers", ["endpointOutput"])]
)
def test_a_recipe_may_keep_requests(runs: Runs, keep: Any, kept: list[str]) -> None:
    run = runs(1)
    run.recipe = replace(run.recipe, capture=Capture(percent=100, keep=keep))
    run.plan = replace(run.plan, recipe=run.recipe)
    deploy(run)
    run.runtime.invoke_endpoint(EndpointName=run.plan.endpoint, ContentType="image/png", Body=b"an image")

    def captured() -> list[str]:
        return list(list_keys(run.s3, run.environment.bucket, f"{run.plan.captured_key}/"))

    (key,) = wait_until(captured)
    line = run.s3.get_object(Bucket=run.environment.bucket, Key=key)["Body"].read()
    assert sorted(json.loads(line)["captureData"]) == kept


def test_a_recipe_keeps_no_requests_by_itself(runs: Runs) -> None:
    assert "DataCaptureConfig" not in task_requests.endpoint_config_request(runs(1))


def test_an_endpoint_is_created_updated_and_left_alone(runs: Runs) -> None:
    for run in (runs(1), runs(2)):
        assert deploy(run)["config"] == run.plan.endpoint_config == served(run)
    before = modified(run)
    assert finish(deploying(run), context())["config"] == run.plan.endpoint_config
    assert modified(run) == before


def test_an_update_that_was_rolled_back_is_a_failure(runs: Runs) -> None:
    good, bad = runs(1), runs(2)
    deploy(good)
    serves = f"serves {good.plan.model}; asked for was {bad.plan.model}"
    told = (
        rf"(?s)^SageMaker rolled the update back\. .*refuses to start.* {serves}\.\n    this model refuses to start\n"
    )
    with pytest.raises(AirflowFailException, match=told):
        deploy(bad, refuses="yes")


def test_a_rolled_back_update_is_not_asked_again(runs: Runs) -> None:
    """The attempt that asked is killed while it waits; the next one finds the endpoint InService, on the old one."""
    good, bad = runs(1), runs(2)
    deploy(good)
    register(bad, refuses="yes")
    with pytest.raises(TaskDeferred) as wait:
        deploying(bad).execute(context())
    wait_for(wait.value.trigger)
    before = modified(bad)
    with pytest.raises(AirflowFailException, match="SageMaker rolled the update back"):
        finish(deploying(bad), context())
    assert modified(bad) == before


@pytest.mark.parametrize("began", [None, "what served then"])
def test_what_changed_since_a_run_began_is_not_updated(runs: Runs, began: str | None) -> None:
    other, run = runs(1), runs(2)
    deploy(other)
    run.context["ti"].known["needs_retraining.serves"] = {"config": began}  # type: ignore[attr-defined]
    was = modified(run)
    with pytest.raises(AirflowFailException, match=f"serves {other.plan.endpoint_config}, and .* when this run began"):
        deploy(run)
    assert (modified(run), run.release_intents.read()) == (was, None)
    with pytest.raises(AirflowSkipException):
        roll_back(run)
    assert served(run) == other.plan.endpoint_config


def test_an_attempt_that_was_overtaken_looks_anew(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(runs(1))
    run, declare, seen = runs(2), Intents.declare, []

    def overtaken(intents: Intents, intent: Intent) -> Intent:
        monkeypatch.setattr(Intents, "declare", declare)
        finish(deploying(run), context())  # the other attempt: all of it happens while this one stalls
        seen.append(modified(run))
        return declare(intents, intent)

    register(run)
    monkeypatch.setattr(Intents, "declare", overtaken)
    finish(deploying(run), context())
    assert (served(run), [modified(run)]) == (run.plan.endpoint_config, seen)


def test_an_attempt_that_stalled_before_it_asked_looks_again(runs: Runs) -> None:
    deploy(runs(1))
    run, next_week = runs(2), runs(3)
    register(run)
    stalled = deploying(run)

    def weeks_pass() -> None:
        finish(deploying(run), context())
        deploy(next_week)

    with (
        between_look_and_request(stalled.hook.conn, "UpdateEndpoint", weeks_pass),
        pytest.raises(AirflowFailException, match="somebody else changed it"),
    ):
        finish(stalled, context())
    assert served(run) == next_week.plan.endpoint_config


def test_a_rollback_that_stalled_deletes_nothing_newer(runs: Runs) -> None:
    run, next_week = runs(1), runs(2)
    deploy(run)
    stalled = rolling_back(run)

    def weeks_pass() -> None:
        roll_back(run)
        deploy(next_week)

    with between_look_and_request(stalled.hook.conn, "DeleteEndpoint", weeks_pass):
        finish(stalled, context())
    assert served(run) == next_week.plan.endpoint_config


def test_an_attempt_that_died_before_asking_is_repeated(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = runs(1), runs(2)
    deploy(first)
    register(second)
    die_before_asking(second, monkeypatch)
    assert finish(deploying(second), context())["config"] == second.plan.endpoint_config


def test_a_worker_of_another_time_zone_asks_no_other_question() -> None:
    at = datetime(2026, 11, 1, 3, tzinfo=UTC)
    description = {"EndpointConfigName": "before", "LastModifiedTime": at}
    elsewhere = description | {"LastModifiedTime": at.astimezone(timezone(timedelta(hours=-8)))}
    assert not Intent.of("e", "wanted", description).was_asked(elsewhere)


def test_a_package_that_a_person_rejected_is_not_deployed(runs: Runs) -> None:
    run = runs(1)
    arn = register(run)
    run.sagemaker.update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Rejected", ApprovalDescription="the colours are wrong"
    )
    with pytest.raises(PackageRejected, match=r"is Rejected \(the colours are wrong\)"):
        task_requests.endpoint_request(run)
    assert served(run) is None


def test_a_swapped_artifact_is_not_deployed(runs: Runs) -> None:
    run = runs(1)
    register(run)
    put_artifact(run, weights="another's")
    with pytest.raises(ArtifactChanged, match=r"1\.tar\.gz, a model artifact, was replaced: its \d+ bytes"):
        deploying(run)
    assert not run.release_intents.read()


def test_an_artifact_swapped_during_the_release_is_not_promoted(runs: Runs) -> None:
    run = runs(1)
    deploy(run)
    put_artifact(run, weights="another's")
    with pytest.raises(ArtifactChanged):
        update_champion(run)


def test_a_model_made_again_is_not_deployed(runs: Runs) -> None:
    run = runs(1)
    register(run)
    request = task_requests.model_request(run)
    run.sagemaker.delete_model(ModelName=run.plan.model)
    other = request["PrimaryContainer"] | {"ModelDataUrl": run.plan.uri("other.tar.gz")}
    run.s3.put_object(Bucket=run.environment.bucket, Key="other.tar.gz", Body=archive(weights="another's"))
    run.sagemaker.create_model(**request | {"PrimaryContainer": other})
    with pytest.raises(NameTaken, match="its artifact is"):
        deploying(run)


def test_a_run_keeps_the_name_it_began_with(runs: Runs) -> None:
    """Upgraded to a version that names runs otherwise, it finds the jobs that it has paid for."""
    began = runs(1)
    facts: Any = began.context["ti"]
    facts.known["preflight.return_value"]["run_name"] = "digits-261101-000000-abcde"
    assert Run(began.recipe, began.context).plan.training_job == "digits-261101-000000-abcde-train"
