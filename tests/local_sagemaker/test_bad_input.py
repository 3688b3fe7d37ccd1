"""What a request may hold and no job can use: it is refused, or the job's fault, and never the server's.

A job that fails with an InternalServerError is begun again by whoever asked for it, and paid for again.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.exceptions
import pytest

from tests.local_sagemaker.harness import BUCKET, IMAGE, ROLE, Server, training_request
from tests.object_store import KEY_ID, REGION, SECRET
from tests.waiting import PATIENCE_S

URIS = (
    "s3://",
    "s3:///key",
    "s3://a b/key",
    "s3://-b/key",
    "s3://a..b/key",
    "s3://../key",
    "s3://./key",
    "s3://UPPER/key",
    "s3://under_score/key",
    "s3://127.0.0.1/key",
    "s3://[::1]/key",
    "s3://bücket/key",
    "s3://no-such-bucket/key",
    "s3://arn:aws:s3:us-east-1:000000000000:accesspoint/a/key",
    f"s3://{'b' * 300}/key",
    f"s3://{BUCKET}/{'k' * 1000}/",
    f"s3://{BUCKET}/../../etc/passwd",
    f"s3://{BUCKET}//",
    f"s3://{BUCKET}/%00%ff",
    f"s3://{BUCKET}/a\u2028b ?#",
    "https://s3.us-east-1.amazonaws.com/",
    "https://..s3.amazonaws.com/x",
    "file:///etc/passwd",
)


def refusal(create: Callable[..., Any], request: dict[str, Any]) -> str | None:
    """The code of the error that it is answered with; None when it is taken."""
    try:
        create(**request)
    except botocore.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


def channel(uri: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": "train", "DataSource": {"S3DataSource": source}}


def trainings(server: Server) -> Iterator[dict[str, Any]]:
    """Parts of CreateTrainingJob requests."""
    good = training_request(server, "bad-input", "print('ran')")
    given = good["HyperParameters"]
    for uri in URIS:
        yield {"InputDataConfig": [channel(uri)]}
        yield {"OutputDataConfig": {"S3OutputPath": uri}}
        yield {"CheckpointConfig": {"S3Uri": uri}}
        yield {"HyperParameters": given | {"sagemaker_submit_directory": uri}}
    many = {f"p{number}": "v" * 2500 for number in range(90)}
    for more in ({"a=b": "1"}, {"a\nb": "1"}, {" ": "1"}, {"é": "\u202e"}, {"-": "-"}, {"a" * 256: "a" * 2500}, many):
        yield {"HyperParameters": given | more}
    for program in (
        "none.py",
        "../train.py",
        "/etc/passwd",
        "a\nb.py",
        "-c",
        "x" * 300,
        ".",
        "train.py/x",
        "tr\u00e4in",
    ):
        yield {"HyperParameters": given | {"sagemaker_program": program}}
    for image in ("x", "no/such:image", "é", "a" * 255):
        yield {"AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"}}
    for words in (["/no/such/program"], ["/etc"], ["\u00e9"], ["x" * 256], ["python3", "-c", "import os; os.abort()"]):
        specification = good["AlgorithmSpecification"] | {"ContainerEntrypoint": words}
        yield {"AlgorithmSpecification": specification}
    yield {"Environment": {f"E{number}": "v" * 512 for number in range(48)}}


def test_no_bad_training_job_is_the_servers_fault(server: Server) -> None:
    started, refused = {}, []
    base = training_request(server, "bad-input", "print('ran')")
    for number, part in enumerate(trainings(server)):
        name = f"bad-input-{number}"
        if code := refusal(server.sagemaker.create_training_job, base | part | {"TrainingJobName": name}):
            refused.append(code)
        else:
            started[name] = part
    assert set(refused) == {"ValidationException"} and len(refused) > 20 and len(started) > 20
    for name, part in started.items():
        ended = server.wait(
            lambda name=name: server.sagemaker.describe_training_job(TrainingJobName=name),  # type: ignore[misc]
            "TrainingJobStatus",
        )
        reason = ended.get("FailureReason", "ClientError")
        assert reason.startswith(("ClientError", "AlgorithmError")), (part, reason)
    assert server.sagemaker.list_training_jobs()["TrainingJobSummaries"]


def test_more_environment_than_a_process_can_have_is_named(server: Server) -> None:
    request = training_request(server, "much-environment", "print('ran')")
    request["HyperParameters"] |= {f"p{number}": "v" * 2500 for number in range(90)}
    server.sagemaker.create_training_job(**request)
    ended = server.wait(
        lambda: server.sagemaker.describe_training_job(TrainingJobName="much-environment"), "TrainingJobStatus"
    )
    assert ended["FailureReason"].startswith("ClientError: the process cannot be started: its command and environment")


@pytest.mark.parametrize("member", ["HyperParameters", "Environment", "RoleArn"])
def test_nul_is_refused_at_the_call(server: Server, member: str) -> None:
    request = training_request(server, "with-nul", "print('ran')")
    value = "arn:aws:iam::000000000000:role/\0" if member == "RoleArn" else request.get(member, {}) | {"a": "b\0c"}
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        server.sagemaker.create_training_job(**(request | {member: value}))
    error = caught.value.response["Error"]
    assert error["Code"] == "ValidationException"


def processings() -> Iterator[dict[str, Any]]:
    for uri in URIS:
        place = {"S3Uri": uri, "LocalPath": "/opt/ml/processing/x", "S3DataType": "S3Prefix", "S3InputMode": "File"}
        yield {"ProcessingInputs": [{"InputName": "x", "S3Input": place}]}
        out = {"S3Uri": uri, "LocalPath": "/opt/ml/processing/y", "S3UploadMode": "EndOfJob"}
        yield {"ProcessingOutputConfig": {"Outputs": [{"OutputName": "y", "S3Output": out}]}}
    yield {"AppSpecification": {"ImageUri": "no/such:image"}}
    yield {"AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["/no/such"]}}
    yield {
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["echo"], "ContainerArguments": ["é" * 256] * 99}
    }
    yield {"Environment": {f"E{number}": "v" * 256 for number in range(100)}}


def test_no_bad_processing_job_is_the_servers_fault(server: Server) -> None:
    base: dict[str, Any] = {
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["true"]},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        },
    }
    started = {}
    for number, part in enumerate(processings()):
        name = f"bad-processing-{number}"
        if code := refusal(server.sagemaker.create_processing_job, base | part | {"ProcessingJobName": name}):
            assert code == "ValidationException", part
        else:
            started[name] = part
    for name, part in started.items():
        ended = server.wait(
            lambda name=name: server.sagemaker.describe_processing_job(ProcessingJobName=name),  # type: ignore[misc]
            "ProcessingJobStatus",
        )
        reason = ended.get("FailureReason", "ClientError")
        assert reason.startswith(("ClientError", "AlgorithmError")), (part, reason)


def test_no_bad_model_data_is_the_servers_fault(server: Server) -> None:
    for number, uri in enumerate(URIS):
        container = {"Image": IMAGE, "ModelDataUrl": uri}
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            server.sagemaker.create_model(ModelName=f"bad-{number}", ExecutionRoleArn=ROLE, PrimaryContainer=container)
        assert caught.value.response["Error"]["Code"] == "ValidationException", uri


def test_no_bad_transform_job_is_the_servers_fault(server: Server) -> None:
    server.sagemaker.create_model(ModelName="bare", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
    started = {}
    for number, uri in enumerate(URIS):
        for place, other in ((uri, f"s3://{BUCKET}/out"), (f"s3://{BUCKET}/in", uri)):
            request = {
                "TransformJobName": f"bad-transform-{number}-{len(started)}",
                "ModelName": "bare",
                "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": place}}},
                "TransformOutput": {"S3OutputPath": other},
                "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
            }
            if code := refusal(server.sagemaker.create_transform_job, request):
                assert code == "ValidationException", uri
            else:
                started[request["TransformJobName"]] = uri
    for name, uri in started.items():
        ended = server.wait(
            lambda name=name: server.sagemaker.describe_transform_job(TransformJobName=name),  # type: ignore[misc]
            "TransformJobStatus",
        )
        assert ended["FailureReason"].startswith(("ClientError", "AlgorithmError")), (uri, ended["FailureReason"])


def test_no_bad_place_of_an_endpoint_is_the_servers_fault(server: Server) -> None:
    variant = {"VariantName": "v", "ModelName": "bare-endpoint", "InstanceType": "ml.m5.large"}
    variant |= {"InitialInstanceCount": 1}
    server.sagemaker.create_model(ModelName="bare-endpoint", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
    for number, uri in enumerate(URIS):
        for member, config in (
            ("AsyncInferenceConfig", {"OutputConfig": {"S3OutputPath": uri}}),
            (
                "DataCaptureConfig",
                {
                    "InitialSamplingPercentage": 100,
                    "DestinationS3Uri": uri,
                    "CaptureOptions": [{"CaptureMode": "Input"}],
                },
            ),
        ):
            request = {"EndpointConfigName": f"bad-{number}-{member}", "ProductionVariants": [variant], member: config}
            code = refusal(server.sagemaker.create_endpoint_config, request)
            assert code in (None, "ValidationException"), uri
            assert code is not None or uri.startswith(f"s3://{BUCKET}") or "no-such" in uri or "_" in uri or "UP" in uri


def post(server: Server, service: str, body: bytes, headers: dict[str, str], path: str = "/") -> tuple[int, bytes]:
    request = botocore.awsrequest.AWSRequest("POST", server.url + path, data=body, headers=headers)
    credentials = botocore.credentials.Credentials(KEY_ID, SECRET)
    botocore.auth.SigV4Auth(credentials, service, REGION).add_auth(request)
    prepared = urllib.request.Request(server.url + path, body, dict(request.headers.items()))
    try:
        with urllib.request.urlopen(prepared, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


DEEP = 100_000
#: Bodies that are JSON, or nearly.
BODIES = (
    b'{"TrainingJobName": "\\ud800"}',
    b'{"TrainingJobName": "a\\udfff\\ud800b", "\\ud800": 1}',
    b'{"NameContains": "\\ud83d"}',
    b'{"MaxResults": ' + b"9" * 10_000 + b"}",
    b'{"MaxResults": 1e999}',
    b'{"MaxResults": -1e999}',
    b'{"MaxResults": NaN}',
    b'{"CreationTimeAfter": 1e308}',
    b'{"CreationTimeAfter": ' + b"9" * 4000 + b"}",
    b'{"CreationTimeAfter": "' + b"9" * 10_000 + b'"}',
    b'{"NextToken": "' + b"A" * 8000 + b'"}',
    b'{"MaxResults": 1, "MaxResults": 2}',
    b'{"Tags": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    b'{"Tags": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    b"[" * DEEP,
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b'{"a": "\xff"}',
    b"null",
    b'"\\u0000"',
)
OPERATIONS = ("ListTrainingJobs", "DescribeTrainingJob", "CreateTrainingJob", "AddTags", "Search", "CreateModel")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_json_is_a_failure_of_the_server(server: Server, operation: str) -> None:
    headers = {"X-Amz-Target": f"SageMaker.{operation}", "Content-Type": "application/x-amz-json-1.1"}
    for body in BODIES:
        status, answer = post(server, "sagemaker", body, headers)
        assert status < 500, (body[:80], answer[:300])
        if status != 200:
            assert json.loads(answer)["__type"], body[:80]


FORMS = (
    b"Action=PutMetricData&Namespace=a&MetricData.member.1.MetricName=m&MetricData.member.1.Value=nan",
    b"Action=PutMetricData&Namespace=a&MetricData.member.1.MetricName=m&MetricData.member.1.Value=1e999",
    b"Action=PutMetricData&Namespace=a&MetricData.member.1.MetricName=m&MetricData.member.1.Value=" + b"9" * 10_000,
    b"Action=PutMetricData&Namespace=%00&MetricData.member.1.MetricName=%ff%00&MetricData.member.1.Value=1",
    b"Action=PutMetricData&Namespace=a&MetricData.member." + b"9" * 10_000 + b".Value=1",
    b"Action=PutMetricData&Namespace=a&MetricData.member.-1.Value=1&MetricData.member.%D9%A3.Value=1",
    b"Action=GetMetricStatistics&StartTime=x&EndTime=" + b"9" * 9000 + b"&Period=" + b"9" * 9000,
    b"Action=GetMetricStatistics&" + b"A." * 20_000 + b"=1",
    b"Action=ListMetrics&" + b"&".join(b"Dimensions.member.%d.Name=a" % number for number in range(5000)),
    b"Action=ListMetrics&NextToken=%ed%a0%80&Action=PutMetricData",
    b"Action=%00&Version=\xff",
    b"Action=GetRole&RoleName=%00%ff",
    b"&&&===%%%",
)


@pytest.mark.parametrize("service", ["monitoring", "sts", "iam"])
def test_no_form_is_a_failure_of_the_server(server: Server, service: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in FORMS:
        status, answer = post(server, service, body, headers)
        assert status < 500, (body[:80], answer[:300])


CBOR = (
    b"\xbf" * DEEP,
    b"\x9f" * DEEP,
    b"\xc1" * DEEP,
    b"\xa1" * DEEP,
    b"\x5f" * DEEP,
    b"\xbb" + b"\xff" * 8,
    b"\x9b" + b"\xff" * 8,
    b"\x7b\x7f" + b"\xff" * 7,
    b"\xa1\x61\xff\x01",
    b"\xa1\x63\xed\xa0\x80\x01",
    b"\xa1\x69Namespace\xf9\x7e\x00",
    b"\xa1\x69Namespace\xfb\x7f\xf0" + b"\0" * 6,
    b"\xa1\x69Namespace\xc2\x5a\x00\x01\x00\x00" + b"\xff" * 65536,
    b"\xa1\x69StartTime\xc1\xfb\x7f\xf0" + b"\0" * 6,
    b"\xa1\x80\x01",
    b"\xa1\xa0\x01",
    b"\xf8\x00",
    b"\x1c",
)


@pytest.mark.parametrize("operation", ["PutMetricData", "GetMetricData", "GetMetricStatistics", "ListMetrics"])
def test_no_cbor_is_a_failure_of_the_server(server: Server, operation: str) -> None:
    headers = {"Smithy-Protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}
    path = f"/service/GraniteServiceVersion20100801/operation/{operation}"
    for body in CBOR:
        status, answer = post(server, "monitoring", body, headers, path)
        assert status < 500, (body[:80], answer[:300])
