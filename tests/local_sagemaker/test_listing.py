"""Lists over the wire, and tags of everything that has an ARN."""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from local_sagemaker.operations import listing
from local_sagemaker.state.store import Store
from tests.local_sagemaker.harness import BUCKET, IMAGE, ROLE, Server, error, training_request

UTC = datetime.UTC


@pytest.fixture(scope="module")
def arns(server: Server) -> dict[str, str]:
    """One resource of each kind, named with capitals, as its ARN is not."""
    server.s3.put_object(Bucket=BUCKET, Key="listing/model.tar.gz", Body=b"x")
    made = {kind: create(server, kind, "Tagged") for kind in KINDS}
    return {
        kind: next(str(value) for name, value in answer.items() if name.endswith("Arn"))
        for kind, answer in made.items()
    }


MODEL_ARN = "arn:aws:sagemaker:us-east-1:000000000000:model/tagged"
KINDS = ("training", "model", "config", "group", "processing", "transform")


def create(server: Server, kind: str, name: str) -> dict[str, Any]:
    sagemaker = server.sagemaker
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/listing/model.tar.gz"}
    variant = {"VariantName": "v", "ModelName": "Tagged", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    calls: dict[str, Callable[[], dict[str, Any]]] = {
        "training": lambda: sagemaker.create_training_job(**training_request(server, name, "")),
        "model": lambda: sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE),
        "config": lambda: sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant]),
        "group": lambda: sagemaker.create_model_package_group(ModelPackageGroupName=name),
        "processing": lambda: sagemaker.create_processing_job(
            ProcessingJobName=name,
            RoleArn=ROLE,
            AppSpecification={"ImageUri": IMAGE, "ContainerEntrypoint": ["true"]},
            ProcessingResources={
                "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
            },
        ),
        "transform": lambda: sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName="Tagged",
            TransformInput={
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/none/"}}
            },
            TransformOutput={"S3OutputPath": f"s3://{BUCKET}/transformed"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        ),
    }
    return calls[kind]()


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_taken_in_any_capitals(server: Server, arns: dict[str, str], kind: str) -> None:
    """Else two resources would share an ARN, and its tags."""
    said = error(lambda: create(server, kind, "TAGGED"))
    assert said == error(lambda: create(server, kind, "Tagged"))
    assert "exist" in said["Message"]


def test_names_that_share_an_arn_stay_after_an_upgrade(tmp_path: Path) -> None:
    """The versions before took both; each is still found by its own name."""
    store = Store(tmp_path / "state.db")
    store.insert("model", "ab", {"is": "ab"})
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as file, file:
        file.execute(
            "INSERT INTO records SELECT kind, 'AB', parent, status, created, modified, describe, internal FROM records"
        )
    store.close()
    store = Store(tmp_path / "state.db")
    store.update("model", "AB", lambda record: record.describe.update({"is": "AB"}))
    assert [record.describe["is"] for record in store.list("model")] == ["ab", "AB"]
    store.close()


def test_a_page_reads_no_more_records_than_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of jobs would else cost seconds for each list."""
    store, rows = Store(tmp_path / "state.db"), list[Any]()
    for number in range(300):
        store.insert("training-job", f"job-{number}", {"CreationTime": number, "TrainingJobStatus": "InProgress"})
    read = store.read
    monkeypatch.setattr(store, "read", lambda *asked: rows.extend(found := read(*asked)) or found)
    for sort in ("CreationTime", "Name", "Status", "LastModifiedTime"):
        request = {"MaxResults": 10, "SortBy": sort}
        page = listing.page(store.list("training-job"), request, member="jobs", summary=lambda job: {"name": job.name})
        assert len(page["jobs"]) == 10
    assert len(rows) == 4 * 11
    store.close()


def test_jobs_of_no_training_plan_are_not_listed(server: Server, arns: dict[str, str]) -> None:
    plan = "arn:aws:sagemaker:us-east-1:000000000000:training-plan/"
    request = training_request(server, "of-a-plan", "")
    request["ResourceConfig"]["TrainingPlanArn"] = plan + "mine"
    server.sagemaker.create_training_job(**request)
    mine, other = (server.sagemaker.list_training_jobs(TrainingPlanArnEquals=plan + name) for name in ("mine", "other"))
    assert [job["TrainingJobName"] for job in mine["TrainingJobSummaries"]] == ["of-a-plan"]
    assert other["TrainingJobSummaries"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_tags_of_every_kind_are_added_replaced_and_removed(server: Server, arns: dict[str, str], kind: str) -> None:
    arn = arns[kind]
    server.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    server.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "3"}])
    assert tags(server, arn) == {"a": "1", "b": "3"}
    server.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a", "never there"])
    assert tags(server, arn) == {"b": "3"}
    server.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["b"])


def tags(server: Server, arn: str) -> dict[str, str]:
    pages = server.sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
    return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}


def test_fifty_tags_are_the_most(server: Server, arns: dict[str, str]) -> None:
    arn = arns["group"]
    many = [{"Key": f"k{number:02}", "Value": "v"} for number in range(50)]
    server.sagemaker.add_tags(ResourceArn=arn, Tags=many)
    assert len(tags(server, arn)) == 50
    server.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "k00", "Value": "new"}])
    with pytest.raises(botocore.exceptions.ClientError, match="51 tags"):
        server.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "one more", "Value": ""}])
    server.sagemaker.delete_tags(ResourceArn=arn, TagKeys=[tag["Key"] for tag in many])


@pytest.mark.parametrize(
    ("call", "request_", "said"),
    [
        ("list_tags", {"ResourceArn": "arn:aws:sagemaker:us-east-1:000000000000:model/nobody"}, "Could not find"),
        ("list_tags", {"ResourceArn": "arn:aws:sagemaker:us-east-1:111111111111:model/tagged"}, "Could not find"),
        ("list_tags", {"ResourceArn": "model/tagged"}, "regular expression pattern"),
        ("list_tags", {"ResourceArn": MODEL_ARN, "NextToken": "zzz###"}, "Invalid NextToken"),
        (
            "create_model_package_group",
            {"ModelPackageGroupName": "g", "Tags": [{"Key": "a", "Value": ""}] * 2},
            "Duplicate tag keys: a",
        ),
        (
            "create_model_package_group",
            {"ModelPackageGroupName": "g", "Tags": [{"Key": "aws:mine", "Value": ""}]},
            "aws: prefixed tag key names are not allowed",
        ),
    ],
)
def test_wrong_tags_are_refused(
    server: Server, arns: dict[str, str], call: str, request_: dict[str, Any], said: str
) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match=said) as caught:
        getattr(server.sagemaker, call)(**request_)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


@pytest.fixture(scope="module")
def groups(server: Server) -> list[str]:
    names = [f"listed-{number:02}" for number in range(23)]
    for name in names:
        server.sagemaker.create_model_package_group(ModelPackageGroupName=name)
    return names


def listed(server: Server, **request: Any) -> list[str]:
    pages = server.sagemaker.get_paginator("list_model_package_groups").paginate(NameContains="listed", **request)
    return [group["ModelPackageGroupName"] for page in pages for group in page["ModelPackageGroupSummaryList"]]


@pytest.mark.parametrize("sort", ["Name", "CreationTime"])
def test_pages_in_both_orders_show_everything_once(server: Server, groups: list[str], sort: str) -> None:
    assert listed(server, SortBy=sort, SortOrder="Ascending", MaxResults=4) == groups
    assert listed(server, SortBy=sort, SortOrder="Descending", MaxResults=7) == groups[::-1]


def test_times_and_names_filter(server: Server, groups: list[str]) -> None:
    middle = server.sagemaker.describe_model_package_group(ModelPackageGroupName=groups[11])["CreationTime"]
    assert listed(server, SortBy="Name", SortOrder="Ascending", CreationTimeAfter=middle)[-1] == groups[-1]
    before = listed(server, CreationTimeBefore=middle - datetime.timedelta(milliseconds=1))
    assert set(before) < set(groups[:12])
    assert listed(server, CreationTimeAfter=datetime.datetime(2100, 1, 1, tzinfo=UTC)) == []


def test_token_of_another_question_is_refused(server: Server, groups: list[str]) -> None:
    first = server.sagemaker.list_model_package_groups(NameContains="listed", MaxResults=2)
    with pytest.raises(botocore.exceptions.ClientError, match="Invalid NextToken"):
        server.sagemaker.list_model_package_groups(NameContains="other", MaxResults=2, NextToken=first["NextToken"])
