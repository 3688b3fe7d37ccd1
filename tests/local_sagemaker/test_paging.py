"""Pages of every implemented operation that has them: any sizes, in any order of sizes, show everything once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from local_sagemaker import app
from local_sagemaker.platform import Platform
from local_sagemaker.settings import Settings
from local_sagemaker.wire import service_model
from local_sagemaker.wire.errors import ApiError

COUNT = 23
TUNING_ARN = "arn:aws:sagemaker:us-east-1:000000000000:hyper-parameter-tuning-job/tuned"
TAGGED_ARN = "arn:aws:sagemaker:us-east-1:000000000000:model/tagged"
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
SIZES = ("MaxResults", "MaxRecords", "limit")


def paged() -> list[tuple[str, str]]:
    """Every implemented operation with a token and a size of pages."""
    found = []
    for service, functions in app.operations().items():
        for name in functions:
            shape = service_model.service(service).operation_model(name).input_shape
            members = shape.members if shape else {}
            if members.keys() & {"NextToken", "nextToken"} and members.keys() & set(SIZES):
                found.append((service, name))
    return found


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """More than a page of everything, as records: nothing runs."""
    root = tmp_path_factory.mktemp("paging")
    made = app.build_platform(Settings(root=root, access_key_id="a", secret_access_key="b", s3_endpoint="http://x"))
    for kind in (
        "training-job", "transform-job", "processing-job", "model", "endpoint-config", "endpoint",
        "model-package-group", "hyper-parameter-tuning-job",
    ):  # fmt: skip
        for number in range(COUNT):
            name = f"{kind[:12]}-{number:02}"
            made.store.insert(kind, name, _describe(kind, name, number))
    made.store.insert("hyper-parameter-tuning-job", "tuned", _describe("hyper-parameter-tuning-job", "tuned", 0))
    for number in range(COUNT):
        name = f"tuned-{number + 1:03}-x"
        made.store.insert("training-job", name, _describe("training-job", name, number), parent=TUNING_ARN)
        made.store.insert(
            "model-package", f"package-{number}", _describe("model-package", f"package-{number}", number), {}
        )
    tags = [{"Key": f"k{number:02}", "Value": "v"} for number in range(COUNT)]
    made.store.insert("model", "tagged", _describe("model", "tagged", 0), {"tags": tags})
    for number in range(COUNT):
        made.logs.put(f"/group/{number:02}", "stream", ["x"])
        made.logs.put(LOG_GROUP, f"stream-{number:02}", [f"line {line}" for line in range(3)])
        _alarm(made, f"alarm-{number:02}")
        name = f"endpoint/e-{number:02}/variant/v"
        scaled = {"policies": {"p": {"PolicyName": name}}, "activities": [{"ActivityId": name, "StartTime": number}]}
        made.store.insert("scalable-target", name, {"ResourceId": name}, scaled)
    yield made
    made.close()


def _describe(kind: str, name: str, number: int) -> dict[str, Any]:
    words = "".join(word.capitalize() for word in kind.split("-"))
    return {
        f"{words}Name": name,
        f"{words}Arn": TUNING_ARN if name == "tuned" else f"arn:{name}",
        f"{words}Status": "Completed",
        "ModelApprovalStatus": "Approved",
        "CreationTime": 1e9 + number,
        "LastModifiedTime": 1e9 + number,
        "SecondaryStatus": "Completed",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "ResourceLimits": {"MaxNumberOfTrainingJobs": COUNT, "MaxParallelTrainingJobs": 1},
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "m"},
            "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]},
        },
        "TrainingJobDefinition": {
            "AlgorithmSpecification": {"TrainingInputMode": "File", "MetricDefinitions": [{"Name": "m", "Regex": "m"}]},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        },
        "TrainingJobStatusCounters": {},
        "ObjectiveStatusCounters": {},
    }


def _alarm(platform: Platform, name: str) -> None:
    app.bound(app.operations()["cloudwatch"]["PutMetricAlarm"], vars(platform))(
        {
            "AlarmName": name, "Namespace": "n", "MetricName": "m", "Statistic": "Sum", "Period": 60,
            "EvaluationPeriods": 1, "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold",
        },
    )  # fmt: skip


def request(operation: str) -> dict[str, Any]:
    match operation:
        case "ListTrainingJobsForHyperParameterTuningJob":
            return {"HyperParameterTuningJobName": "tuned"}
        case "ListTags":
            return {"ResourceArn": TAGGED_ARN}
        case "DescribeLogStreams" | "FilterLogEvents":
            return {"logGroupName": LOG_GROUP}
        case "GetLogEvents":
            return {"logGroupName": LOG_GROUP, "logStreamName": "stream-00", "startFromHead": True}
        case "DescribeScalableTargets" | "DescribeScalingPolicies" | "DescribeScalingActivities":
            return {"ServiceNamespace": "sagemaker"}
    return {}


def walk(platform: Platform, service: str, operation: str, sizes: Iterator[int]) -> list[str]:
    """Everything that the pages show, each page of the next size."""
    function = app.bound(app.operations()[service][operation], vars(platform))
    shape: Any = service_model.service(service).operation_model(operation).input_shape
    size = next(name for name in SIZES if name in shape.members)
    token = "nextToken" if "nextToken" in shape.members else "NextToken"
    found, place = [], {}
    while True:
        answer = function(request(operation) | {size: next(sizes)} | place)
        found += [str(item) for value in answer.values() if isinstance(value, list) for item in value]
        after = answer.get(token, answer.get("nextForwardToken"))
        if after is None or place.get(token) == after:
            return found
        place = {token: after}


@pytest.mark.parametrize(("service", "operation"), paged(), ids=[name for _, name in paged()])
def test_size_of_the_pages_may_change_between_them(platform: Platform, service: str, operation: str) -> None:
    draw = random.Random(operation)
    at_once = walk(platform, service, operation, iter([100] * 99))
    assert len(at_once) >= (3 if operation == "GetLogEvents" else COUNT)
    assert len(set(at_once)) == len(at_once)
    for _ in range(5):
        sizes = iter([draw.randint(1, 9) for _ in range(999)])
        assert walk(platform, service, operation, sizes) == at_once


def test_every_paged_operation_is_tried() -> None:
    assert {name for _, name in paged()} >= {"ListTrainingJobs", "ListTags", "GetLogEvents", "DescribeAlarms"}
    assert len(paged()) >= 17


@pytest.mark.parametrize(
    "other", [{"NameContains": "x"}, {"StatusEquals": "Failed"}, {"SortBy": "Name"}, {"SortOrder": "Ascending"}]
)
def test_token_is_bound_to_selection_and_order(platform: Platform, other: dict[str, Any]) -> None:
    function = app.bound(app.operations()["sagemaker"]["ListTrainingJobs"], vars(platform))
    token = function({"MaxResults": 3})["NextToken"]
    with pytest.raises(ApiError, match="Invalid NextToken"):
        function({"MaxResults": 3, "NextToken": token} | other)


def test_token_of_another_list_is_refused(platform: Platform) -> None:
    functions = app.operations()["sagemaker"]
    ask = {name: app.bound(functions[name], vars(platform)) for name in functions if ("sagemaker", name) in paged()}
    tokens = {name: function(request(name) | {"MaxResults": 1})["NextToken"] for name, function in ask.items()}
    for name, function in ask.items():
        for other in tokens.keys() - {name}:
            with pytest.raises(ApiError, match="Invalid NextToken"):
                function(request(name) | {"NextToken": tokens[other]})


def test_order_that_is_the_default_may_be_said(platform: Platform) -> None:
    function = app.bound(app.operations()["sagemaker"]["ListTrainingJobs"], vars(platform))
    token = function({"MaxResults": 3})["NextToken"]
    said = {"SortBy": "CreationTime", "SortOrder": "Descending", "NextToken": token}
    assert function(said) == function({"NextToken": token})
