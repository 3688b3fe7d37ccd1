"""The model registry: versions, approval, and deploying what was approved."""

from __future__ import annotations

import concurrent.futures
import signal
from collections.abc import Callable
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
    server.sagemaker.delete_model_package(ModelPackageName=arn)  # the model has a copy
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


def test_refusals_say_what_to_do(server: Server, group: str) -> None:
    arn = register(server, group)
    specification = server.sagemaker.describe_model_package(ModelPackageName=arn)["InferenceSpecification"]
    elsewhere = arn.replace("us-east-1", "eu-west-1")
    additional = {"Name": "same", "Containers": specification["Containers"]}
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("create_model_package", {}, "Give either ModelPackageGroupName"),
        (
            "create_model_package",
            {"ModelPackageGroupName": group, "ModelPackageName": "x"},
            "Give either ModelPackageGroupName",
        ),
        ("create_model_package", {"ModelPackageName": "x"}, "A package without versions needs"),
        (
            "create_model_package",
            {"ModelPackageGroupName": group, "Tags": [{"Key": "a", "Value": "b"}]},
            "Tags: a version has the tags of its model package group",
        ),
        (
            "create_model_package",
            {
                "ModelPackageGroupName": group,
                "InferenceSpecification": {
                    "Containers": [{"Image": "a", "Framework": "PYTORCH", "FrameworkVersion": "2.15.0+cu132"}]
                },
            },
            "2 validation errors detected: Value '2.15.0+cu132'",
        ),
        (
            "create_model_package",
            {"ModelPackageGroupName": group, "CustomerMetadataProperties": {}},
            "1 validation error detected",
        ),
        ("describe_model_package", {"ModelPackageName": elsewhere}, f"ModelPackage {elsewhere} does not exist."),
        ("delete_model_package", {"ModelPackageName": f"{group}/99"}, f"ModelPackage {group}/99 does not exist."),
        (
            "update_model_package",
            {"ModelPackageArn": arn, "ModelApprovalStatus": "Perhaps"},
            "1 validation error detected: Value 'Perhaps'",
        ),
        (
            "update_model_package",
            {"ModelPackageArn": arn, "CustomerMetadataProperties": {f"k{n}": "v" for n in range(50)}},
            "CustomerMetadataProperties: there would be 51",
        ),
        (
            "update_model_package",
            {"ModelPackageArn": arn, "AdditionalInferenceSpecificationsToAdd": [additional, additional]},
            "AdditionalInferenceSpecifications: the name same is given twice",
        ),
        (
            "put_model_package_group_policy",
            {"ModelPackageGroupName": group, "ResourcePolicy": "[]"},
            "Invalid resource",
        ),
        ("get_model_package_group_policy", {"ModelPackageGroupName": group}, "Model Package Group arn:"),
        ("delete_model_package_group", {"ModelPackageGroupName": "none"}, "Model Package Group arn:"),
    ]
    for operation, request, message in cases:
        answer = error(server, operation, **request)
        assert answer["Code"] == "ValidationException"
        assert answer["Message"].startswith(message)
    assert server.sagemaker.describe_model_package(ModelPackageName=arn)["CustomerMetadataProperties"] == {"lr": "0.01"}


def test_twenty_at_once_get_twenty_versions(server: Server, group: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        arns = list(pool.map(lambda _: register(server, group), range(20)))
    assert sorted(int(arn.rpartition("/")[2]) for arn in arns) == list(range(1, 21))


def test_versions_are_listed_by_status_and_number(server: Server, group: str) -> None:
    for number in range(12):
        register(server, group, ModelApprovalStatus="Approved" if number % 2 else "Rejected")
    pages = server.sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=group, SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 5}
    )
    versions = [[item["ModelPackageVersion"] for item in page["ModelPackageSummaryList"]] for page in pages]
    assert versions == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12]]
    approved = server.sagemaker.list_model_packages(ModelPackageGroupName=group, ModelApprovalStatus="Approved")
    assert [item["ModelPackageVersion"] for item in approved["ModelPackageSummaryList"]] == [12, 10, 8, 6, 4, 2]
    summary = approved["ModelPackageSummaryList"][0]
    assert summary["ModelPackageGroupName"] == group
    assert "ModelPackageName" not in summary
    arn = f"arn:aws:sagemaker:us-east-1:000000000000:model-package-group/{group.lower()}"
    by_arn = server.sagemaker.list_model_packages(ModelPackageGroupName=arn, MaxResults=100)["ModelPackageSummaryList"]
    assert len(by_arn) == 12


def test_version_is_found_by_arn_and_by_number(server: Server, group: str) -> None:
    arn = register(server, group)
    for name in (arn, f"{group}/1"):
        assert server.sagemaker.describe_model_package(ModelPackageName=name)["ModelPackageArn"] == arn
    missing = f"{arn[:-1]}7"
    answer = server.sagemaker.batch_describe_model_package(ModelPackageArnList=[arn, missing])
    assert answer["ModelPackageSummaries"][arn]["ModelPackageVersion"] == 1
    assert answer["BatchDescribeModelPackageErrorMap"][missing]["ErrorCode"] == "ValidationException"


def test_update_changes_what_it_names_and_no_more(server: Server, group: str) -> None:
    arn = register(server, group, ModelPackageDescription="kept")
    container = {"Image": SERVING_IMAGE, "ModelDataUrl": "s3://b/other.tar.gz"}
    cycle = {"Stage": "Production", "StageStatus": "Live"}
    server.sagemaker.update_model_package(
        ModelPackageArn=arn, ModelLifeCycle=cycle, SourceUri="s3://b/source", ModelPackageRegistrationType="Registered",
        AdditionalInferenceSpecificationsToAdd=[{"Name": "small", "Containers": [container]}],
        ModelCard={"ModelCardContent": '{"a": 1}', "ModelCardStatus": "Draft"},
    )  # fmt: skip
    server.sagemaker.update_model_package(ModelPackageArn=arn, ModelCard={"ModelCardStatus": "Approved"})
    answer = server.sagemaker.describe_model_package(ModelPackageName=arn)
    assert (answer["ModelLifeCycle"], answer["SourceUri"]) == (cycle, "s3://b/source")
    assert answer["ModelCard"] == {"ModelCardContent": '{"a": 1}', "ModelCardStatus": "Approved"}
    assert answer["AdditionalInferenceSpecifications"][0]["Name"] == "small"
    assert (answer["ModelPackageDescription"], answer["ModelApprovalStatus"]) == ("kept", "PendingManualApproval")
    assert answer["LastModifiedTime"] >= answer["CreationTime"]
    (summary,) = server.sagemaker.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    assert (summary["ModelLifeCycle"], summary["ModelPackageRegistrationType"]) == (cycle, "Registered")


def test_additional_specification_can_be_deployed(server: Server, group: str) -> None:
    small = {"Image": SERVING_IMAGE, "ModelDataUrl": put_model(server, version=8), "Environment": {"MY_SIZE": "small"}}
    arn = register(
        server, group, ModelApprovalStatus="Approved",
        AdditionalInferenceSpecifications=[{"Name": "small", "Containers": [small]}],
    )  # fmt: skip
    container = {"ModelPackageName": arn, "InferenceSpecificationName": "small", "Environment": {"MY_SIZE": "tiny"}}
    model = unique("Model")
    server.sagemaker.create_model(ModelName=model, PrimaryContainer=container)
    seen = invoke(server, deploy(server, create_config(server, model)))
    assert (seen["version"], seen["environment"]["MY_SIZE"]) == (8, "tiny")
    other = {"ModelPackageName": arn, "InferenceSpecificationName": "large"}
    refused = error(server, "create_model", ModelName="refused", PrimaryContainer=other)
    assert refused["Message"].endswith("has no additional inference specification named large.")


def test_package_without_versions_needs_no_approval(server: Server) -> None:
    name = unique("Package")
    request = {
        "ModelPackageName": name, "ClientToken": "once", "Tags": [{"Key": "a", "Value": "b"}],
        "InferenceSpecification": {
            "Containers": [{"Image": SERVING_IMAGE, "ModelDataUrl": put_model(server, version=3)}],
            "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.large"],
        },
    }  # fmt: skip
    refusal = error(server, "create_model_package", **request)["Message"]
    assert refusal.startswith("InferenceSpecification.SupportedTransformInstanceTypes is required")
    request["InferenceSpecification"]["SupportedTransformInstanceTypes"] = ["ml.m5.large"]
    container = request["InferenceSpecification"]["Containers"][0]
    surrounded = {**request["InferenceSpecification"], "Containers": [{**container, "Environment": {"A": "b"}}]}
    refusal = error(server, "create_model_package", **{**request, "InferenceSpecification": surrounded})["Message"]
    assert "Environment variable map cannot be specified when using non-versioned ModelPackages" in refusal
    arn = server.sagemaker.create_model_package(**request)["ModelPackageArn"]
    assert arn == f"arn:aws:sagemaker:us-east-1:000000000000:model-package/{name.lower()}"
    assert server.sagemaker.create_model_package(**request)["ModelPackageArn"] == arn
    taken = error(server, "create_model_package", **{**request, "ClientToken": "twice"})
    assert taken["Message"] == f"Cannot create already existing model package {arn}."
    described = server.sagemaker.describe_model_package(ModelPackageName=name)
    assert described["ModelPackageName"] == name
    assert {"ModelApprovalStatus", "ModelPackageVersion", "ModelPackageGroupName"}.isdisjoint(described)
    listed = server.sagemaker.list_model_packages(NameContains=name)["ModelPackageSummaryList"]
    assert [item["ModelPackageName"] for item in listed] == [name]
    versioned = server.sagemaker.list_model_packages(NameContains=name, ModelPackageType="Versioned")
    assert versioned["ModelPackageSummaryList"] == []
    assert server.sagemaker.list_tags(ResourceArn=arn)["Tags"] == request["Tags"]
    model = unique("Model")
    server.sagemaker.create_model(ModelName=model, PrimaryContainer={"ModelPackageName": arn})
    server.sagemaker.delete_model_package(ModelPackageName=name)
    error(server, "describe_model_package", ModelPackageName=name)


def test_versions_of_no_group_cannot_be_listed(server: Server, group: str) -> None:
    """An empty answer would say that nothing was registered, and another account's group is not the one here."""
    arn = server.sagemaker.describe_model_package_group(ModelPackageGroupName=group)["ModelPackageGroupArn"]
    for name in ("no-such-group", arn.replace("us-east-1", "eu-west-1"), arn.replace("0" * 12, "1" * 12)):
        assert "does not exist" in error(server, "list_model_packages", ModelPackageGroupName=name)["Message"]


def test_policy_of_a_group_is_kept(server: Server, group: str) -> None:
    policy = '{"Version": "2012-10-17", "Statement": []}'
    server.sagemaker.put_model_package_group_policy(ModelPackageGroupName=group, ResourcePolicy=policy)
    assert server.sagemaker.get_model_package_group_policy(ModelPackageGroupName=group)["ResourcePolicy"] == policy
    server.sagemaker.delete_model_package_group_policy(ModelPackageGroupName=group)
    error(server, "get_model_package_group_policy", ModelPackageGroupName=group)


def test_number_is_not_reused_after_a_kill(make_server: Callable[..., Server]) -> None:
    server = make_server()
    server.sagemaker.create_model_package_group(ModelPackageGroupName="g")
    arns = [register(server, "g", ClientToken=f"t{number}") for number in range(3)]
    server.sagemaker.delete_model_package(ModelPackageName=arns[2])
    server.stop(signal.SIGKILL)
    server.start()
    assert register(server, "g").endswith("/4")
    assert register(server, "g", ClientToken="t0") == arns[0]
    assert register(server, "g", ClientToken="t2") == arns[2]  # as the first time, though it is gone by now
