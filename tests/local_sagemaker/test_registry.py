"""The model registry: versions, approval, and deploying what was approved."""

from __future__ import annotations

import concurrent.futures
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from tests.local_sagemaker.harness import Server
from tests.local_sagemaker.serving import (
    SERVING_IMAGE,
    create_config,
    deploy,
    invoke,
    put_model,
    unique,
    write_image_map,
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


@pytest.fixture
def group(server: Server) -> str:
    name = unique("Group")
    server.sagemaker.create_model_package_group(ModelPackageGroupName=name, ModelPackageGroupDescription="digits")
    return name


def register(server: Server, group: str, url: str = "s3://b/model.tar.gz", **members: Any) -> str:
    request = {
        "ModelPackageGroupName": group,
        "InferenceSpecification": {
            "Containers": [{"Image": SERVING_IMAGE, "ModelDataUrl": url, "Environment": {"MY_SETTING": "registered"}}],
            "SupportedContentTypes": ["image/png"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        "CustomerMetadataProperties": {"lr": "0.01"},
    }
    arn: str = server.sagemaker.create_model_package(**(request | members))["ModelPackageArn"]
    return arn


def error(server: Server, operation: str, **request: Any) -> dict[str, Any]:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        getattr(server.sagemaker, operation)(**request)
    answer: dict[str, Any] = caught.value.response["Error"]
    return answer


def test_versions_count_up_and_are_never_reused(server: Server, group: str) -> None:
    arns = [register(server, group) for _ in range(2)]
    prefix = f"arn:aws:sagemaker:us-east-1:000000000000:model-package/{group.lower()}"
    assert arns == [f"{prefix}/1", f"{prefix}/2"]
    server.sagemaker.delete_model_package(ModelPackageName=arns[1])
    assert register(server, group) == f"{prefix}/3"
    listed = server.sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    assert [item["ModelPackageVersion"] for item in listed] == [3, 1]


def test_package_is_described_as_aws_does(server: Server, group: str) -> None:
    arn = register(server, group)
    answer = server.sagemaker.describe_model_package(ModelPackageName=arn)
    assert answer["ModelPackageGroupName"] == group
    assert answer["ModelPackageVersion"] == 1
    assert answer["ModelPackageStatus"] == "Completed"
    assert answer["ModelApprovalStatus"] == "PendingManualApproval"
    assert answer["InferenceSpecification"]["Containers"][0]["Image"] == SERVING_IMAGE


def test_same_token_makes_one_version(server: Server, group: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        arns = list(pool.map(lambda _: register(server, group, ClientToken="once"), range(4)))
    assert len(set(arns)) == 1
    assert register(server, group, ClientToken="twice").endswith("/2")


def test_update_changes_approval_and_metadata(server: Server, group: str) -> None:
    arn = register(server, group)
    server.sagemaker.update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Approved", ApprovalDescription="better",
        CustomerMetadataProperties={"epochs": "6"}, CustomerMetadataPropertiesToRemove=["lr"],
    )  # fmt: skip
    answer = server.sagemaker.describe_model_package(ModelPackageName=arn)
    assert (answer["ModelApprovalStatus"], answer["ApprovalDescription"]) == ("Approved", "better")
    assert answer["CustomerMetadataProperties"] == {"epochs": "6"}
    approved = server.sagemaker.list_model_packages(ModelPackageGroupName=group, ModelApprovalStatus="Approved")
    assert [item["ModelPackageArn"] for item in approved["ModelPackageSummaryList"]] == [arn]


def test_only_approved_versions_are_deployed(server: Server, group: str) -> None:
    arn = register(server, group, put_model(server, version=5))
    model = unique("Model")
    request = {"ModelName": model, "PrimaryContainer": {"ModelPackageName": arn}}
    assert "only an Approved one can be deployed" in error(server, "create_model", **request)["Message"]
    server.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    server.sagemaker.create_model(**request)
    assert server.sagemaker.describe_model(ModelName=model)["PrimaryContainer"] == {"ModelPackageName": arn}
    seen = invoke(server, deploy(server, create_config(server, model)))
    assert (seen["version"], seen["environment"]["MY_SETTING"]) == (5, "registered")


def test_groups_are_listed_and_refuse_to_lose_versions(server: Server, group: str) -> None:
    answer = server.sagemaker.describe_model_package_group(ModelPackageGroupName=group)
    assert answer["ModelPackageGroupDescription"] == "digits"
    listed = server.sagemaker.list_model_package_groups(NameContains=group)["ModelPackageGroupSummaryList"]
    assert [item["ModelPackageGroupName"] for item in listed] == [group]
    arn = register(server, group)
    conflict = error(server, "delete_model_package_group", ModelPackageGroupName=group)
    assert conflict["Code"] == "ConflictException"
    server.sagemaker.delete_model_package(ModelPackageName=arn)
    server.sagemaker.delete_model_package_group(ModelPackageGroupName=group)
    error(server, "describe_model_package_group", ModelPackageGroupName=group)


def test_errors_are_sagemakers(server: Server, group: str) -> None:
    answer = error(server, "create_model_package_group", ModelPackageGroupName=group)
    arn = f"arn:aws:sagemaker:us-east-1:000000000000:model-package-group/{group.lower()}"
    assert answer == {"Code": "ValidationException", "Message": f"Model Package Group already exists: {arn}"}
    answer = error(server, "describe_model_package", ModelPackageName=f"{group}/9")
    assert answer == {"Code": "ValidationException", "Message": f"ModelPackage {group}/9 does not exist."}
    answer = error(server, "create_model_package", ModelPackageGroupName="none")
    assert answer["Message"].endswith("model-package-group/none does not exist.")
    answer = error(server, "create_model_package", ModelPackageName="unversioned")
    assert answer["Message"].startswith("Give ModelPackageGroupName")
