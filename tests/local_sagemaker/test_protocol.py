"""The wire: errors, signatures, who may call."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import urllib.error
import urllib.request
from typing import Any

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.exceptions
import pytest

from local_sagemaker import app
from local_sagemaker.wire import java_pattern, service_model
from local_sagemaker.wire.errors import ApiError
from tests.local_sagemaker.harness import Server, training_request
from tests.object_store import CLIENT, KEY_ID, REGION, SECRET
from tests.waiting import PATIENCE_S


def code(caught: Any) -> str:
    return str(caught.value.response["Error"]["Code"])


def test_caller_identity_and_role_are_answered(server: Server) -> None:
    assert server.client("sts").get_caller_identity()["Account"] == "000000000000"
    assert server.client("iam").get_role(RoleName="r")["Role"]["Arn"] == "arn:aws:iam::000000000000:role/r"


#: Services that a client may be pointed here for, by intent or by mistake → some of what it would send.
SERVICES = ("sagemaker", "sagemaker-runtime", "logs", "sts", "iam", "cloudwatch", "sqs", "lambda", "batch")


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_is_answered_by_aws_shaped_words(server: Server, service: str) -> None:
    """All operations of each service: those that are not implemented are named, and none is a failure of the server."""
    unprefixed = botocore.config.Config(
        retries={"total_max_attempts": 1}, parameter_validation=False, inject_host_prefix=False
    )
    client, implemented = server.client(service, config=unprefixed), app.operations().get(service, {})
    shapes = client.meta.service_model
    named = 0
    for operation in shapes.operation_names:
        try:
            client._make_api_call(operation, smallest(shapes.operation_model(operation)))
        except botocore.exceptions.ClientError as error:
            answer = error.response
            assert answer["Error"]["Code"] not in {"InternalFailure", "500", "404"}, (operation, answer)
            assert 400 <= answer["ResponseMetadata"]["HTTPStatusCode"] < 500, (operation, answer)
            assert answer["Error"]["Message"], operation
            assert answer["ResponseMetadata"].get("RequestId"), operation
            if shapes.operation_model(operation).auth_type == "none":  # AWS answers it without a signature
                assert answer["Error"]["Code"] == "MissingAuthenticationToken"
                named += 1
            elif operation not in implemented and service != "sagemaker-runtime":
                rest = shapes.metadata["protocol"] == "rest-json"
                assert operation in answer["Error"]["Message"] or rest, (operation, answer)
                assert "local_sagemaker does not implement" in answer["Error"]["Message"], (operation, answer)
                named += 1
        else:
            assert operation in implemented, operation
    assert named == len(shapes.operation_names) - len(implemented) or service == "sagemaker-runtime"


def smallest(operation: Any) -> dict[str, Any]:
    """The members that stand in the address, without which no request can be sent."""
    members = operation.input_shape.members if operation.input_shape else {}
    return {name: "x" for name, shape in members.items() if shape.serialization.get("location") == "uri"}


def test_request_for_s3_sent_here_is_refused_in_its_format(make_server: Any) -> None:
    server = make_server()
    server.stop()
    server.s3_endpoint = ""
    server.start()
    with pytest.raises(botocore.exceptions.ClientError, match="AWS_ENDPOINT_URL_S3 set to an object store"):
        server.client("s3").list_buckets()


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


@pytest.mark.parametrize(
    ("service", "operation", "request_", "name"),
    [
        ("logs", "describe_log_streams", {"logGroupName": "x", "limit": 51}, "InvalidParameterException"),
        ("iam", "get_role", {"RoleName": "x" * 65}, "ValidationError"),
        ("application-autoscaling", "describe_scalable_targets", {"ServiceNamespace": "x"}, "ValidationException"),
        ("cloudwatch", "list_metrics", {"MetricName": "x" * 256}, "ValidationError"),
    ],
)
def test_each_service_names_violations_its_way(
    server: Server, service: str, operation: str, request_: dict[str, Any], name: str
) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="1 validation error detected: Value '") as caught:
        getattr(server.client(service), operation)(**request_)
    assert code(caught) == name


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
    status, answer = post(server, b"{not json")
    assert (status, answer["__type"]) == (400, "SerializationException")


def post(
    server: Server, body: bytes, operation: str = "ListTrainingJobs", **headers: str
) -> tuple[int, dict[str, Any]]:
    """A signed request with exactly these bytes."""
    signed = botocore.awsrequest.AWSRequest(
        "POST", server.url + "/", data=body, headers={"X-Amz-Target": f"SageMaker.{operation}"} | headers
    )
    botocore.auth.SigV4Auth(botocore.credentials.Credentials(KEY_ID, SECRET), "sagemaker", REGION).add_auth(signed)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/", body, dict(signed.headers.items()))
    answer = connection.getresponse()
    assert answer.getheader("x-amzn-RequestId")
    return answer.status, json.loads(answer.read())


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"MaxResults": NaN}',
        b'{"MaxResults": 1e999}',
        b'{"MaxResults": ' + b"9" * 5_000 + b"}",
        b'{"MaxResults": 4294967296}',
        b'{"MaxResults": "10"}',
        b'{"MaxResults": 1.5}',
        b'{"MaxResults": true}',
        b'{"NameContains": "\\ud800"}',
        b'{"NameContains": ["a"]}',
        b'{"CreationTimeAfter": 1e300}',
        b'{"CreationTimeAfter": "yesterday"}',
        b"[" * 50_000,
    ],
)
def test_value_of_the_wrong_type_is_a_serialization_exception(server: Server, body: bytes) -> None:
    status, answer = post(server, body)
    assert (status, answer["__type"]) == (400, "SerializationException")
    assert answer["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"MaxResults": null}', b'{"Surprise": {"deep": [1, 2]}}', b'{"MaxResults": 101, "MaxResults": 1}'],
)
def test_what_aws_overlooks_is_overlooked(server: Server, body: bytes) -> None:
    assert post(server, body)[0] == 200


def test_compressed_request_is_understood(server: Server) -> None:
    zipped = gzip.compress(b'{"MaxResults": 1000}')
    status, answer = post(server, zipped, **{"Content-Encoding": "gzip"})
    assert (status, answer["__type"]) == (400, "ValidationException")


def test_long_value_is_shown_short(server: Server) -> None:
    _, answer = post(server, json.dumps({"TrainingJobName": "é" * 100_000}).encode(), "DescribeTrainingJob")
    assert "Member must have length less than or equal to 63" in answer["message"]
    assert "(100000 characters)" in answer["message"]
    assert len(answer["message"]) < 5_000


def test_body_that_is_too_large_is_refused(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("POST", "/")
    connection.putheader("X-Amz-Target", "SageMaker.ListTrainingJobs")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    assert connection.getresponse().status == 413


# The constraints, without a server.


def words(operation: str, request: dict[str, Any]) -> str:
    with pytest.raises(ApiError) as caught:
        service_model.check_request("sagemaker", operation, request)
    return caught.value.message


def test_path_of_a_list_member_is_written_as_aws_does() -> None:
    message = words(
        "AddTags", {"ResourceArn": "arn:aws:sagemaker:us-east-1:000000000000:model/m", "Tags": [{"Key": "k"}]}
    )
    assert message == (
        "1 validation error detected: Value null at 'tags.1.member.value' failed to satisfy constraint: "
        "Member must not be null"
    )


def test_plain_values_of_a_list_or_map_are_reported_together() -> None:
    hyperparameters = {"a": "1", "b": "x" * 2501}
    message = words("CreateTrainingJob", training() | {"HyperParameters": hyperparameters})
    assert "1 validation error detected: Value '{a=1, b=xxx" in message
    assert (
        "' at 'hyperParameters' failed to satisfy constraint: Map value must satisfy constraint: "
        "[Member must have length less than or equal to 2500, Member must have length greater than or equal to 0, "
        "Member must satisfy regular expression pattern: .*]"
    ) in message
    subnets = {"Subnets": ["?"], "SecurityGroupIds": ["sg-1"]}
    assert (
        "Value '[?]' at 'vpcConfig.subnets' failed to satisfy constraint: Member must satisfy constraint: ["
        in words("CreateTrainingJob", training() | {"VpcConfig": subnets})
    )


def test_wrong_type_is_told_with_its_place() -> None:
    assert words("CreateTrainingJob", training() | {"ResourceConfig": {"InstanceCount": "1"}}).startswith(
        "STRING_VALUE can not be converted to an Integer at 'resourceConfig.instanceCount'"
    )


def test_nulls_and_unknown_members_do_not_reach_an_operation() -> None:
    request = training() | {"Surprise": 1, "Environment": None}
    assert service_model.check_request("sagemaker", "CreateTrainingJob", request) == training()


def training() -> dict[str, Any]:
    return {
        "TrainingJobName": "t",
        "RoleArn": "arn:aws:iam::000000000000:role/r",
        "OutputDataConfig": {"S3OutputPath": "s3://b/p"},
    }


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", ["日本語 é²", "a:b/c", ""], ["a!", "日!", "☃"]),
        (r"([\p{L}]*)${1,128}", ["abc"], ["1"]),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", ["a日😀\t"], ["\n"]),
        (r"[\w-_]*", ["a-_"], ["é"]),
        (r"\d+", ["12"], ["\u0661"]),
        (r"\A\S[\p{Print}]*\z", ["a b"], [" a", "aé"]),
        (r"[a-z&&]+", ["a&"], ["A"]),
    ],
)
def test_java_pattern_means_the_same(pattern: str, fits: list[str], does_not: list[str]) -> None:
    matches = java_pattern.compiled(pattern)
    assert [text for text in fits if not matches(text)] == []
    assert [text for text in does_not if matches(text)] == []


def test_every_pattern_of_the_models_is_held() -> None:
    for service in ("sagemaker", "logs", "cloudwatch", "sts", "iam"):
        for shape in service_model._description(service)["shapes"].values():
            if "pattern" in shape:
                java_pattern.compiled(shape["pattern"])


def test_what_is_not_signed_cannot_be_asked(server: Server) -> None:
    """A request that is signed for one operation must not be made another on the way."""
    request = botocore.awsrequest.AWSRequest("POST", server.url + "/", data=b"{}")
    credentials = botocore.credentials.Credentials(KEY_ID, SECRET)
    botocore.auth.SigV4Auth(credentials, "sagemaker", REGION).add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for unsigned in ("X-Amz-Target", "X-Amz-Security-Token"):
        headers = dict(request.headers.items()) | {unsigned: "SageMaker.ListTrainingJobs"}
        connection.request("POST", "/", b"{}", headers)
        answer = connection.getresponse()
        content = json.loads(answer.read())
        assert (answer.status, content["__type"]) == (403, "InvalidSignatureException")
        assert content["message"].startswith(f"'{unsigned.lower()}' must be a 'SignedHeader'")


def test_a_stranger_is_refused_before_his_body_is_read(server: Server) -> None:
    for path in (b"/", b"/endpoints/e/invocations", b"/endpoints/e/async-invocations"):
        head = b"POST " + path + b" HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 20000000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
            connection.sendall(head)
            assert connection.recv(2**16).startswith(b"HTTP/1.1 403 ")


def test_a_connection_is_bounded(server: Server) -> None:
    """By wire/connection.py, which tests/contract/test_connections.py attacks."""
    ask = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    for sent, status in (
        (b"GET /" + b"x" * 2**20, 414),
        (ask + b"x: " + b"y" * 2**20, 431),
        (ask + b"host: localhost\r\n\r\n", 400),
        (ask + b"\r\n" + ask + b"connection: close\r\n\r\n", 200),
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
            connection.sendall(sent)
            answer = b"".join(iter(lambda taken=connection: taken.recv(2**16), b""))  # type: ignore[misc]
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.count(b"HTTP/1.1 200") == (2 if status == 200 else 0)
