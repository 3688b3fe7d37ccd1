"""A release that failed is taken back as far as it was ours, and no further."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from botocore.exceptions import ClientError

from retraining.promotion.champion import own_champion
from retraining.release import package
from retraining.release.package import PackageRejected
from retraining.steps import prune, task_requests, update_champion
from tests.plugins.release_run import (
    Runs,
    approval,
    deploy,
    deploying,
    die_before_asking,
    promote,
    put_artifact,
    register,
    roll_back,
    served,
)
from tests.plugins.task_run import IMAGE, ROLE, context, finish


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
