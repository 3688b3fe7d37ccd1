"""boto3: waiters, paginators, the error codes and words that programs match on, and signatures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError, WaiterError

from tests.conformance.target import Target
from tests.conformance.work import ROLE, SERVING_IMAGE, Work
from tests.waiting import PATIENCE_S, wait_until

QUICK = {"Delay": 1, "MaxAttempts": int(PATIENCE_S)}


@pytest.fixture(scope="module")
def sagemaker(target: Target) -> Any:
    return target.client("sagemaker")


@pytest.fixture
def name() -> str:
    return f"boto3-{uuid4().hex[:8]}"


def error_of(call: Callable[..., Any], **request: Any) -> tuple[str, str]:
    """(code, message) of the error that the call must end in."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


# Waiters


def test_the_training_waiter_ends_when_the_script_has_run(sagemaker: Any, work: Work, name: str) -> None:
    sagemaker.create_training_job(**work.training(name))
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=QUICK)
    job = sagemaker.describe_training_job(TrainingJobName=name)
    assert job["FinalMetricDataList"][0]["Value"] == pytest.approx(0.006839)


def test_the_training_waiter_fails_with_a_broken_script(sagemaker: Any, work: Work, name: str) -> None:
    sagemaker.create_training_job(**work.training(name, "broken.py"))
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=QUICK)
    reason = sagemaker.describe_training_job(TrainingJobName=name)["FailureReason"]
    assert reason.startswith("AlgorithmError") and "train.csv is not in the channel" in reason


def test_a_stopped_job_counts_as_done_for_the_waiter(sagemaker: Any, work: Work, name: str) -> None:
    sagemaker.create_training_job(**work.training(name, "endless.py"))
    time.sleep(1)
    sagemaker.stop_training_job(TrainingJobName=name)
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=QUICK)
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Stopped"


def test_the_processing_waiter(sagemaker: Any, target: Target, work: Work, name: str) -> None:
    sagemaker.create_processing_job(**work.processing(name))
    sagemaker.get_waiter("processing_job_completed_or_stopped").wait(ProcessingJobName=name, WaiterConfig=QUICK)
    listed = target.client("s3").list_objects_v2(Bucket=work.bucket, Prefix=f"work/processed/{name}/")
    assert [item["Key"].rpartition("/")[2] for item in listed["Contents"]] == ["seen.json"]


def test_the_transform_waiter(sagemaker: Any, target: Target, work: Work, name: str) -> None:
    sagemaker.create_model(**work.model(name))
    sagemaker.create_transform_job(**work.transform(name, name))
    sagemaker.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName=name, WaiterConfig=QUICK)
    found = target.client("s3").get_object(Bucket=work.bucket, Key=f"work/scored/{name}/1.json.out")
    assert found["Body"].read() == b"[7.0, 14.0]"


def test_the_endpoint_waiters(sagemaker: Any, target: Target, work: Work, name: str) -> None:
    sagemaker.create_model(**work.model(name))
    sagemaker.create_endpoint_config(**work.endpoint_config(name, name))
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=QUICK)
    answer = target.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=name, Body=b"[2]", ContentType="application/json"
    )
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=QUICK)
    assert answer["Body"].read() == b"[14.0]" and answer["InvokedProductionVariant"] == "AllTraffic"


def test_the_endpoint_waiter_fails_for_a_model_that_does_not_start(sagemaker: Any, work: Work, name: str) -> None:
    request = work.model(name)
    request["PrimaryContainer"]["Environment"] = {"SAGEMAKER_PROGRAM": "no_such_program.py"}
    sagemaker.create_model(**request)
    sagemaker.create_endpoint_config(**work.endpoint_config(name, name))
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    with pytest.raises(WaiterError):
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=QUICK)
    assert "no_such_program.py" in sagemaker.describe_endpoint(EndpointName=name)["FailureReason"]
    sagemaker.delete_endpoint(EndpointName=name)


# Paginators


def make_endpoints(sagemaker: Any, work: Work, prefix: str) -> None:
    sagemaker.create_model(**work.model(prefix))
    sagemaker.create_endpoint_config(**work.endpoint_config(prefix, prefix))
    for number in range(3):
        sagemaker.create_endpoint(EndpointName=f"{prefix}-{number}", EndpointConfigName=prefix)


def make_models(sagemaker: Any, work: Work, prefix: str) -> None:
    for number in range(3):
        sagemaker.create_model(**work.model(f"{prefix}-{number}"))


def make_configs(sagemaker: Any, work: Work, prefix: str) -> None:
    make_models(sagemaker, work, prefix)
    for number in range(3):
        sagemaker.create_endpoint_config(**work.endpoint_config(f"{prefix}-{number}", f"{prefix}-{number}"))


def make_training_jobs(sagemaker: Any, work: Work, prefix: str) -> None:
    for number in range(3):
        sagemaker.create_training_job(**work.training(f"{prefix}-{number}"))


def make_processing_jobs(sagemaker: Any, work: Work, prefix: str) -> None:
    for number in range(3):
        sagemaker.create_processing_job(**work.processing(f"{prefix}-{number}"))


def make_transform_jobs(sagemaker: Any, work: Work, prefix: str) -> None:
    sagemaker.create_model(**work.model(prefix))
    for number in range(3):
        sagemaker.create_transform_job(**work.transform(f"{prefix}-{number}", prefix))


def make_tuning_jobs(sagemaker: Any, work: Work, prefix: str) -> None:
    for number in range(3):
        sagemaker.create_hyper_parameter_tuning_job(**work.tuning(f"{prefix}-{number}", jobs=1))


def make_groups(sagemaker: Any, work: Work, prefix: str) -> None:
    for number in range(3):
        sagemaker.create_model_package_group(ModelPackageGroupName=f"{prefix}-{number}")


LISTS = {
    "list_models": ("Models", "ModelName", make_models),
    "list_endpoint_configs": ("EndpointConfigs", "EndpointConfigName", make_configs),
    "list_endpoints": ("Endpoints", "EndpointName", make_endpoints),
    "list_training_jobs": ("TrainingJobSummaries", "TrainingJobName", make_training_jobs),
    "list_processing_jobs": ("ProcessingJobSummaries", "ProcessingJobName", make_processing_jobs),
    "list_transform_jobs": ("TransformJobSummaries", "TransformJobName", make_transform_jobs),
    "list_hyper_parameter_tuning_jobs": (
        "HyperParameterTuningJobSummaries",
        "HyperParameterTuningJobName",
        make_tuning_jobs,
    ),
    "list_model_package_groups": ("ModelPackageGroupSummaryList", "ModelPackageGroupName", make_groups),
}


@pytest.mark.parametrize("operation", LISTS)
def test_a_paginator_gives_each_once_in_order(sagemaker: Any, work: Work, name: str, operation: str) -> None:
    member, key, make = LISTS[operation]
    make(sagemaker, work, name)
    pages = list(
        sagemaker.get_paginator(operation).paginate(
            NameContains=name, SortBy="Name", SortOrder="Descending", PaginationConfig={"PageSize": 2}
        )
    )
    found = [item[key] for page in pages for item in page[member] if item[key] != name]
    assert found == [f"{name}-2", f"{name}-1", f"{name}-0"] and len(pages) == 2


def test_the_jobs_of_a_tuning_job_by_objective(sagemaker: Any, work: Work, name: str) -> None:
    sagemaker.create_hyper_parameter_tuning_job(**work.tuning(name, jobs=3))

    def described() -> dict[str, Any]:
        return dict(sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name))

    wait_until(lambda: described()["HyperParameterTuningJobStatus"] != "InProgress", every_s=0.5)
    paginator = sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
    pages = paginator.paginate(
        HyperParameterTuningJobName=name, SortBy="FinalObjectiveMetricValue", PaginationConfig={"PageSize": 2}
    )
    jobs = [job for page in pages for job in page["TrainingJobSummaries"]]
    values = [job["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for job in jobs]
    assert values == sorted(values) and len(values) == 3
    assert jobs[0]["TrainingJobName"] == described()["BestTrainingJob"]["TrainingJobName"]


# What programs match on: the code, and how the message begins


NOT_THERE = {
    "describe_training_job": ("TrainingJobName", "ValidationException", "Requested resource not found"),
    "stop_training_job": ("TrainingJobName", "ValidationException", "Requested resource not found"),
    "describe_processing_job": ("ProcessingJobName", "ValidationException", "Could not find requested job"),
    "stop_processing_job": ("ProcessingJobName", "ValidationException", "Could not find requested job"),
    "describe_hyper_parameter_tuning_job": (
        "HyperParameterTuningJobName",
        "ResourceNotFound",
        "Amazon SageMaker can't find a tuning job",
    ),
    "describe_model": ("ModelName", "ValidationException", 'Could not find model "'),
    "delete_model": ("ModelName", "ValidationException", 'Could not find model "'),
    "describe_endpoint_config": (
        "EndpointConfigName",
        "ValidationException",
        'Could not find endpoint configuration "',
    ),
    "describe_endpoint": ("EndpointName", "ValidationException", 'Could not find endpoint "'),
    "delete_endpoint": ("EndpointName", "ValidationException", 'Could not find endpoint "'),
}


@pytest.mark.parametrize("call", NOT_THERE)
def test_the_error_for_what_is_not_there(sagemaker: Any, call: str) -> None:
    member, code, start = NOT_THERE[call]
    found = error_of(getattr(sagemaker, call), **{member: "never-made"})
    assert found[0] == code and found[1].startswith(start), found


UNIQUE = "Job name must be unique within an AWS account and region, and a job with this name already exists"
IN_USE = {
    "create_training_job": ("ResourceInUse", UNIQUE),
    "create_processing_job": ("ResourceInUse", UNIQUE),
    "create_transform_job": ("ResourceInUse", UNIQUE),
    "create_hyper_parameter_tuning_job": ("ResourceInUse", UNIQUE),
    "create_model": ("ValidationException", "Cannot create already existing model"),
    "create_endpoint_config": ("ValidationException", "Cannot create already existing endpoint configuration"),
    "create_model_package_group": ("ValidationException", "Model Package Group already exists"),
}


@pytest.mark.parametrize("call", IN_USE)
def test_the_error_for_a_name_in_use(sagemaker: Any, work: Work, name: str, call: str) -> None:
    code, start = IN_USE[call]
    requests = {
        "create_training_job": work.training(name),
        "create_processing_job": work.processing(name),
        "create_transform_job": work.transform(name, name),
        "create_hyper_parameter_tuning_job": work.tuning(name),
        "create_model": work.model(name),
        "create_endpoint_config": work.endpoint_config(name, name),
        "create_model_package_group": {"ModelPackageGroupName": name},
    }
    sagemaker.create_model(**requests["create_model"])
    if call != "create_model":
        getattr(sagemaker, call)(**requests[call])
    found = error_of(getattr(sagemaker, call), **requests[call])
    assert found[0] == code and found[1].startswith(start), found


def test_an_endpoint_in_use_is_told_as_sagemaker_tells_it(sagemaker: Any, work: Work, name: str) -> None:
    sagemaker.create_model(**work.model(name))
    sagemaker.create_endpoint_config(**work.endpoint_config(name, name))
    request = {"EndpointName": name, "EndpointConfigName": name}
    sagemaker.create_endpoint(**request)
    again = error_of(sagemaker.create_endpoint, **request)
    assert again[0] == "ValidationException" and again[1].startswith("Cannot create already existing endpoint"), again
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=QUICK)
    other = error_of(sagemaker.update_endpoint, EndpointName=name, EndpointConfigName="never-made")
    assert other[1].startswith("Could not find endpoint configuration"), other
    sagemaker.delete_endpoint(EndpointName=name)


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("TrainingJobName", "under_score", "trainingJobName"),
        ("HyperParameters", {"k": "v" * 2501}, "hyperParameters"),
        ("ResourceConfig", {"InstanceType": "ml.none.large", "InstanceCount": 1, "VolumeSizeInGB": 1}, "instanceType"),
        ("RoleArn", "not-an-arn-at-all-no", "roleArn"),
    ],
    ids=["pattern", "length", "enum", "arn"],
)
def test_what_the_api_forbids_is_a_validation_exception(
    sagemaker: Any, work: Work, name: str, member: str, value: Any, words: str
) -> None:
    """botocore checks types only; lengths, patterns and bounds are the service's to refuse."""
    code, message = error_of(sagemaker.create_training_job, **(work.training(name) | {member: value}))
    assert code == "ValidationException" and "failed to satisfy constraint" in message, message
    assert words.lower() in message.lower()


def test_an_endpoint_that_does_not_exist_cannot_be_asked(target: Target) -> None:
    runtime = target.client("sagemaker-runtime")
    code, message = error_of(runtime.invoke_endpoint, EndpointName="never-made", Body=b"[1]")
    assert code == "ValidationError" and message.startswith("Endpoint never-made of account"), message


def test_an_error_of_the_model_is_a_model_error(sagemaker: Any, target: Target, work: Work, name: str) -> None:
    sagemaker.create_model(**work.model(name))
    sagemaker.create_endpoint_config(**work.endpoint_config(name, name))
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=QUICK)
    with pytest.raises(ClientError) as caught:
        target.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=name, Body=b"this is not JSON", ContentType="application/json"
        )
    sagemaker.delete_endpoint(EndpointName=name)
    answer = caught.value.response
    assert answer["Error"]["Code"] == "ModelError" and answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert answer["OriginalStatusCode"] == 500 and "JSONDecodeError" in answer["OriginalMessage"]
    assert answer["LogStreamArn"].startswith("arn:aws:logs:")


def test_an_operation_that_is_not_there_says_so(sagemaker: Any) -> None:
    code, message = error_of(sagemaker.list_feature_groups)
    assert "ListFeatureGroups" in message and code != "InternalFailure", (code, message)


# The registry, tags, logs


def test_a_model_package_is_approved_and_then_deployed(sagemaker: Any, target: Target, work: Work, name: str) -> None:
    sagemaker.create_model_package_group(ModelPackageGroupName=name)
    container = {"Image": SERVING_IMAGE, "ModelDataUrl": f"s3://{work.bucket}/work/model.tar.gz"}
    arn = sagemaker.create_model_package(
        ModelPackageGroupName=name,
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [container],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )["ModelPackageArn"]
    sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"ModelPackageName": arn})
    sagemaker.create_endpoint_config(**work.endpoint_config(name, name))
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=QUICK)
    runtime = target.client("sagemaker-runtime")
    answer = runtime.invoke_endpoint(EndpointName=name, Body=b"[3]", ContentType="application/json")
    sagemaker.delete_endpoint(EndpointName=name)
    assert answer["Body"].read() == b"[21.0]"


def test_tags_are_kept(sagemaker: Any, work: Work, name: str) -> None:
    arn = sagemaker.create_model(**work.model(name), Tags=[{"Key": "team", "Value": "vision"}])["ModelArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "stage", "Value": "test"}])
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "stage", "Value": "test"}]


def test_the_log_of_a_job_is_in_cloudwatch_logs(sagemaker: Any, target: Target, work: Work, name: str) -> None:
    sagemaker.create_training_job(**work.training(name))
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=name, WaiterConfig=QUICK)
    logs, group = target.client("logs"), "/aws/sagemaker/TrainingJobs"
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, logStreamNamePrefix=f"{name}/", filterPattern="loss", PaginationConfig={"PageSize": 2}
    )
    lines = [event["message"].rstrip() for page in pages for event in page["events"]]
    assert [line.partition(" ")[0] for line in lines] == [f"epoch={number}" for number in range(5)]


# Who may ask


def test_a_wrong_secret_is_refused(target: Target) -> None:
    client = target.client("sagemaker", aws_secret_access_key="not-the-secret")
    code, _ = error_of(client.list_models)
    assert code in {"InvalidSignatureException", "SignatureDoesNotMatch"}


def test_an_unknown_key_is_refused(target: Target) -> None:
    code, _ = error_of(target.client("sagemaker", aws_access_key_id="AKIDNOBODY").list_models)
    assert code in {"UnrecognizedClientException", "InvalidClientTokenId"}


def test_an_unsigned_request_is_refused(target: Target) -> None:
    unsigned = botocore.config.Config(signature_version=botocore.UNSIGNED)
    code, _ = error_of(target.client("sagemaker", config=unsigned).list_models)
    assert code in {"MissingAuthenticationToken", "MissingAuthenticationTokenException", "AccessDeniedException"}


def test_a_presigned_address_of_an_object_works(target: Target, work: Work) -> None:
    import urllib.request

    client = boto3.client(
        "s3",
        endpoint_url=target.s3_url,
        region_name="us-east-1",
        aws_access_key_id=target.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=target.environment["AWS_SECRET_ACCESS_KEY"],
        config=botocore.config.Config(signature_version="s3v4"),
    )
    url = client.generate_presigned_url("get_object", Params={"Bucket": work.bucket, "Key": "work/train/points.csv"})
    assert urllib.request.urlopen(url, timeout=PATIENCE_S).read() == b"1,3\n2,6\n3,9\n"
