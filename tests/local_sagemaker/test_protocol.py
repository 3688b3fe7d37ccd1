"""The wire: errors, signatures, who may call."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import Any

import boto3
import botocore.exceptions
import pytest

from tests.local_sagemaker.harness import CLIENT, Server, training_request


def code(caught: Any) -> str:
    return str(caught.value.response["Error"]["Code"])


def test_caller_identity_and_role_are_answered(server: Server) -> None:
    assert server.client("sts").get_caller_identity()["Account"] == "000000000000"
    assert server.client("iam").get_role(RoleName="r")["Role"]["Arn"] == "arn:aws:iam::000000000000:role/r"


@pytest.mark.parametrize(
    ("service", "call"),
    [
        ("sagemaker", lambda client: client.create_domain(DomainName="d", AuthMode="IAM", DefaultUserSettings={})),
        ("logs", lambda client: client.delete_log_group(logGroupName="g")),
        ("iam", lambda client: client.create_role(RoleName="r", AssumeRolePolicyDocument="{}")),
        ("cloudwatch", lambda client: client.list_metrics()),
        ("dynamodb", lambda client: client.list_tables()),
        ("sqs", lambda client: client.list_queues()),
    ],
)
def test_what_is_not_implemented_is_named(server: Server, service: str, call: Any) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="local_sagemaker does not implement"):
        call(server.client(service))


def test_every_violation_is_reported_in_awss_words(server: Server) -> None:
    request = training_request(server, "-bad-", "")
    request["AlgorithmSpecification"]["TrainingInputMode"] = "Telepathy"
    request["StoppingCondition"]["MaxRuntimeInSeconds"] = 0
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        server.sagemaker.create_training_job(**request)
    message = caught.value.response["Error"]["Message"]
    assert code(caught) == "ValidationException"
    assert message.startswith("3 validation errors detected: ")
    assert "Value '-bad-' at 'trainingJobName' failed to satisfy constraint: Member must satisfy regular" in message
    assert "at 'algorithmSpecification.trainingInputMode' failed" in message
    assert "at 'stoppingCondition.maxRuntimeInSeconds' failed to satisfy constraint: Member must have value" in message


def test_missing_member_is_reported(server: Server) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="Value null at 'trainingJobName' failed"):
        server.sagemaker.describe_training_job()


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"aws_secret_access_key": "wrong"}, "InvalidSignatureException"),
        ({"aws_access_key_id": "wrong"}, "UnrecognizedClientException"),
    ],
)
def test_wrong_key_is_refused(server: Server, key: dict[str, str], expected: str) -> None:
    client = boto3.client("sagemaker", endpoint_url=server.url, **(CLIENT | key))
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        client.list_training_jobs()
    assert code(caught) == expected


def test_unsigned_request_is_refused(server: Server) -> None:
    request = urllib.request.Request(server.url, b"{}", {"X-Amz-Target": "SageMaker.ListTrainingJobs"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 403


@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_request_of_a_web_page_is_refused(server: Server, header: dict[str, str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/", b"{}", {"X-Amz-Target": "SageMaker.ListTrainingJobs"} | header)
    assert connection.getresponse().status == 403


def test_body_that_is_not_json_is_a_serialization_exception(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/", b"{not json", {"X-Amz-Target": "SageMaker.ListTrainingJobs"})
    answer = connection.getresponse()
    assert answer.status == 400
    assert b"SerializationException" in answer.read()
