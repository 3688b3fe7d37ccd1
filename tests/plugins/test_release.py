"""A release against a real server: asked once, checked by what SageMaker says, and taken back as far as it was ours."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from botocore.exceptions import ClientError

from retraining.identity import NameTaken
from retraining.intent import Intent, Intents
from retraining.promotion.champion import own_champion
from retraining.recipe.capture import Capture
from retraining.release import package
from retraining.release.artifact import ArtifactChanged
from retraining.release.package import PackageRejected
from retraining.release.served import EndpointMoved, while_serving
from retraining.run import Run
from retraining.s3.listing import list_keys
from retraining.steps import prune, update_champion
from retraining.steps import task_requests as task_requests
from tests.plugins.release_run import (
    Runs,
    approval,
    between_look_and_request,
    deploy,
    deploying,
    die_before_asking,
    modified,
    promote,
    put_artifact,
    register,
    roll_back,
    rolling_back,
    served,
)
from tests.plugins.task_run import IMAGE, ROLE, archive, context, finish, wait_for
from tests.waiting import wait_until

# --- deploy ---------------------------------------------------------------------------------------------------------


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


def test_a_swapped_artifact_is_not_registered(runs: Runs) -> None:
    run = runs(1)
    register(run)
    put_artifact(run, weights="another's")
    with pytest.raises(ArtifactChanged):
        task_requests.registration_request(run)


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


def test_the_registry_and_the_pointer_name_the_bytes(runs: Runs) -> None:
    run = runs(1)
    deploy(run)
    update_champion(run)
    package = run.sagemaker.describe_model_package(ModelPackageName=run.fact("register")["arn"])
    artifact = run.read_json(run.plan.champion_key)["artifact"]
    assert artifact["uri"] == run.model_data_url
    assert package["CustomerMetadataProperties"]["artifact_sha256"] == artifact["sha256"]


def test_a_candidate_that_lost_is_not_registered(runs: Runs) -> None:
    """Cleared by itself after the run, `register` is no longer skipped."""
    run = runs(1)
    run.fact("compare", key="comparison")["decision"] |= {"promote": False, "reason": "the champion is better"}
    with pytest.raises(task_requests.NotPromoted, match="stays out: the champion is better"):
        task_requests.registration_request(run)


def test_a_run_keeps_the_name_it_began_with(runs: Runs) -> None:
    """Upgraded to a version that names runs otherwise, it finds the jobs that it has paid for."""
    began = runs(1)
    facts: Any = began.context["ti"]
    facts.known["preflight.return_value"]["run_name"] = "digits-261101-000000-abcde"
    assert Run(began.recipe, began.context).plan.training_job == "digits-261101-000000-abcde-train"


# --- rollback -------------------------------------------------------------------------------------------------------


def test_rollback_returns_to_the_champion(runs: Runs) -> None:
    champion, failed = runs(1), runs(2)
    deploy(champion)
    update_champion(champion)
    deploy(failed)
    assert roll_back(failed)["config"] == champion.plan.endpoint_config == served(failed)
    with pytest.raises(AirflowSkipException, match="nothing to roll back"):
        roll_back(failed)


def test_rollback_serves_no_swapped_artifact(runs: Runs) -> None:
    champion, run = runs(1), runs(2)
    promote(champion)
    deploy(run, label="b")
    place = {"Bucket": run.environment.bucket, "Key": champion.model_data_url.rsplit("/", 1)[-1]}
    promoted = run.s3.get_object(**place)["Body"].read()
    put_artifact(champion, label="another's")
    with pytest.raises(AirflowFailException, match=r"was replaced.* serves still, which failed.* --to RUN"):
        roll_back(run)
    assert served(run) == run.plan.endpoint_config
    run.s3.put_object(**place, Body=promoted)
    roll_back(run)
    assert served(run) == champion.plan.endpoint_config


def test_an_endpoint_of_somebody_else_is_given_back(runs: Runs, s3: Any, bucket: str) -> None:
    """It served before this run, which must not delete it, champion or no champion."""
    theirs, ours = runs(1), runs(2)
    deploy(theirs)
    deploy(ours)
    assert roll_back(ours)["config"] == theirs.plan.endpoint_config == served(ours)


def test_an_endpoint_of_this_run_is_withdrawn(runs: Runs) -> None:
    run = runs(1)
    deploy(run)
    assert roll_back(run)["config"] is None
    assert served(run) is None


@pytest.mark.parametrize("removed", [("endpoint_config",), ("endpoint_config", "model"), ("model",)])
def test_a_champion_that_was_removed_is_made_again(runs: Runs, removed: tuple[str, ...]) -> None:
    champion, failed = runs(1), runs(2)
    deploy(champion)
    update_champion(champion)
    deploy(failed)
    sagemaker, name = failed.sagemaker, champion.plan.run_name
    made = sagemaker.describe_model(ModelName=name)["PrimaryContainer"]
    if "endpoint_config" in removed:
        sagemaker.delete_endpoint_config(EndpointConfigName=name)
    if "model" in removed:
        sagemaker.delete_model(ModelName=name)
    assert roll_back(failed)["config"] == name == served(failed)
    assert sagemaker.describe_model(ModelName=name)["PrimaryContainer"] == made


def test_another_model_of_that_name_is_not_gone_back_to(runs: Runs) -> None:
    champion, failed = runs(1), runs(2)
    deploy(champion)
    update_champion(champion)
    deploy(failed)
    sagemaker, name = failed.sagemaker, champion.plan.run_name
    sagemaker.delete_model(ModelName=name)
    other = {"Image": IMAGE, "ModelDataUrl": failed.model_data_url}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=other)
    with pytest.raises(
        AirflowFailException, match=f"does not go back to {name}, and {failed.plan.run_name} serves still"
    ):
        roll_back(failed)


def test_a_champion_of_an_early_version_is_asked_for_if_it_is_there(runs: Runs) -> None:
    """Its document does not tell of what it was made."""
    lost, before, failed = runs(1), runs(2), runs(3)
    deploy(lost)
    update_champion(lost)
    known = own_champion(lost.s3, lost.plan).document or {}
    lost.write_json(lost.plan.champion_key, known | {"image": None})
    deploy(before)
    deploy(failed)
    failed.sagemaker.delete_endpoint_config(EndpointConfigName=lost.plan.endpoint_config)
    assert roll_back(failed)["config"] == before.plan.endpoint_config


def test_a_broken_pointer_does_not_stop_a_rollback(runs: Runs) -> None:
    before, failed = runs(1), runs(2)
    deploy(before)
    deploy(failed)
    failed.s3.put_object(Bucket=failed.environment.bucket, Key=failed.plan.champion_key, Body=b"{broken")
    assert roll_back(failed)["config"] == before.plan.endpoint_config


def test_a_release_of_an_earlier_version_is_taken_back(runs: Runs) -> None:
    """Upgraded between deploy and smoke test: nothing is written of what was asked, and SageMaker knows."""
    first, champion, failed = runs(1), runs(2), runs(3)
    for run, back_to in ((first, None), (failed, champion.plan.endpoint_config)):
        if run is failed:
            deploy(champion)
            update_champion(champion)
        deploy(run)
        run.s3.delete_object(Bucket=run.environment.bucket, Key=run.plan.release_key)
        assert roll_back(run)["config"] == back_to == served(run)


def test_the_log_of_a_failed_endpoint_is_shown(runs: Runs) -> None:
    run = runs(1)
    with pytest.raises(AirflowFailException, match=r"is Failed: .*\n    this model refuses to start\n"):
        deploy(run, refuses="yes")


def test_a_closed_registry_does_not_stop_a_rollback(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the credentials lack sagemaker:UpdateModelPackage."""
    before, failed = runs(1), runs(2)
    deploy(before)
    deploy(failed)

    def denied(*_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "UpdateModelPackage")

    monkeypatch.setattr(package, "reject", denied)
    assert roll_back(failed)["registry"] == "The registry was not told: no"
    assert served(failed) == before.plan.endpoint_config


def test_rollback_in_mid_update_waits_and_goes_back(runs: Runs) -> None:
    """As after `deploy` was marked failed, or as a success, while it waited."""
    before, failed = runs(1), runs(2)
    deploy(before)
    register(failed)
    with pytest.raises(TaskDeferred):
        deploying(failed).execute(context())
    assert roll_back(failed)["config"] == before.plan.endpoint_config == served(failed)


def test_what_was_taken_back_is_not_deployed_again(runs: Runs) -> None:
    """Nor where a person approves its package after all: that takes a run with a smoke test."""
    run = runs(1)
    deploy(run)
    cleared = deploying(run)
    roll_back(run)
    with pytest.raises(AirflowFailException, match="was taken back; clearing deploy does not repeat it"):
        finish(cleared, context())
    with pytest.raises(PackageRejected, match="failed and was taken back"):
        deploying(run)
    assert served(run) is None


def test_a_promoted_run_has_nothing_to_take_back(runs: Runs) -> None:
    run = runs(1)
    deploy(run)
    update_champion(run)
    assert task_requests.rollback_request(run) == {}


def test_a_former_champion_is_not_taken_back(runs: Runs) -> None:
    """Its tasks are cleared weeks later, when another run serves; its package was approved rightly."""
    former, now = runs(1), runs(2)
    deploy(former)
    update_champion(former)
    known = former.s3.get_object(Bucket=former.environment.bucket, Key=former.plan.champion_key)
    facts: Any = now.context["ti"]
    facts.known["needs_retraining.champion"] = {"document": json.load(known["Body"]), "etag": known["ETag"]}
    deploy(now)
    update_champion(now)
    assert task_requests.rollback_request(former) == {}
    assert approval(former) == "Approved"


@pytest.mark.parametrize(
    "state", [{"chosen_options": ["Reject"]}, {"chosen_options": ["Reject"], "responded_by_user": {}}]
)
def test_what_nobody_approved_is_not_registered(runs: Runs, state: dict[str, Any]) -> None:
    """Where `register` is cleared by itself."""
    run = runs(1)
    facts: Any = run.context["ti"]
    facts.known["approve.return_value"] = state
    with pytest.raises(task_requests.NotPromoted, match="Nothing is registered"):
        task_requests.registration_request(run)


def test_a_mark_is_nobodys_approval(runs: Runs) -> None:
    run = runs(1)
    run.recipe = replace(run.recipe, approval=True)
    with pytest.raises(task_requests.NotPromoted, match=r"marked as a success.*Clear it, and answer it"):
        task_requests.registration_request(run)


def test_a_run_that_asked_nothing_has_nothing_to_take_back(runs: Runs) -> None:
    run = runs(1)
    register(run)
    assert task_requests.rollback_request(run) == {}


def test_a_deploy_that_asked_nothing_may_be_cleared(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after three throttled attempts: the package waits, and a cleared deploy asks."""
    first, second = runs(1), runs(2)
    deploy(first)
    register(second)
    die_before_asking(second, monkeypatch)
    with pytest.raises(AirflowSkipException, match="before it asked anything"):
        roll_back(second)
    assert approval(second) == "PendingManualApproval"
    assert finish(deploying(second), context())["config"] == second.plan.endpoint_config


# --- the package ----------------------------------------------------------------------------------------------------


def test_a_package_is_approved_when_its_release_is_done(runs: Runs) -> None:
    run = runs(1)
    deploy(run)
    assert approval(run) == "PendingManualApproval"
    update_champion(run)
    assert approval(run) == "Approved"


def test_a_package_says_who_approved_it(runs: Runs) -> None:
    """A name may have signs in it that SageMaker does not take."""
    run = runs(1)
    facts: Any = run.context["ti"]
    facts.known["approve.return_value"] = {"chosen_options": ["Approve"], "responded_by_user": {"name": "Ada (ops)"}}
    register(run)
    package = run.sagemaker.describe_model_package(ModelPackageName=run.fact("register")["arn"])
    assert package["CustomerMetadataProperties"]["approved_by"] == "Ada _ops_"


def test_a_package_whose_release_failed_is_rejected(runs: Runs) -> None:
    run = runs(1)
    deploy(run)
    roll_back(run)
    assert approval(run) == "Rejected"


def test_a_deleted_package_stops_no_way_back(runs: Runs) -> None:
    champion, run = runs(1), runs(2)
    promote(champion)
    deploy(run)
    arn = run.fact("register")["arn"]
    run.sagemaker.delete_model_package(ModelPackageName=arn)
    told = roll_back(run)
    assert told["registry"] == f"The registry was not told: ModelPackage {arn} does not exist."
    assert served(run) == champion.plan.endpoint_config
    with pytest.raises(AirflowSkipException, match="nothing to roll back"):
        roll_back(run)  # cleared


def test_a_package_deleted_during_the_release_is_not_promoted(runs: Runs) -> None:
    run = runs(1)
    deploy(run)
    run.sagemaker.delete_model_package(ModelPackageName=run.fact("register")["arn"])
    for step in (update_champion, task_requests.endpoint_request):
        with pytest.raises(PackageRejected, match=r"was deleted from the registry, so its model is not deployed"):
            step(run)


def test_a_package_rejected_during_the_release_is_not_promoted(runs: Runs) -> None:
    run = runs(1)
    deploy(run)
    arn = run.fact("register")["arn"]
    run.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Rejected")
    with pytest.raises(PackageRejected):
        update_champion(run)
    assert not run.s3.list_objects_v2(Bucket=run.environment.bucket, Prefix=run.plan.champion_key).get("Contents")


# --- what is served -------------------------------------------------------------------------------------------------


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


# --- prune ----------------------------------------------------------------------------------------------------------


def test_prune_leaves_what_another_deployment_made(runs: Runs) -> None:
    kept = [runs(number) for number in range(1, 7)]
    for run in kept:
        register(run)
    foreign, gone = kept[0].plan, kept[1].plan
    arn = kept[0].sagemaker.describe_model(ModelName=foreign.model)["ModelArn"]
    kept[0].sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "retraining:bucket", "Value": "another-bucket"}])
    last = kept[-1]
    finish(deploying(last), context())
    removed = prune(last)
    assert gone.model in removed["Model"]
    assert foreign.model not in removed["Model"]
    assert last.sagemaker.describe_model(ModelName=foreign.model)["ModelArn"] == arn
