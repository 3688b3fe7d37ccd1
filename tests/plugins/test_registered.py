"""A release in the registry: what may go there, what is said of it, and what stops it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from retraining.release.artifact import ArtifactChanged
from retraining.release.package import PackageRejected
from retraining.steps import task_requests, update_champion
from tests.plugins.release_run import (
    Runs,
    approval,
    deploy,
    promote,
    put_artifact,
    register,
    roll_back,
    served,
)


def test_a_swapped_artifact_is_not_registered(runs: Runs) -> None:
    run = runs(1)
    register(run)
    put_artifact(run, weights="another's")
    with pytest.raises(ArtifactChanged):
        task_requests.registration_request(run)


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
