"""Whatever is sent, the answer is one that botocore reads, and never the server's own failure.

10,000 requests made from the service model. A request that fails is printed with its seed and number:
`generated.request(seed, number, …)` makes it again.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import random
import threading
from collections import Counter

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.parsers
import pytest

from local_sagemaker import app
from local_sagemaker.wire import service_model
from tests.local_sagemaker import generated
from tests.local_sagemaker.harness import BUCKET, Server
from tests.object_store import KEY_ID, REGION, SECRET
from tests.waiting import PATIENCE_S

SEED = int(os.environ.get("PROPERTY_SEED", "2026"))
TARGETS = {"sagemaker": "SageMaker", "logs": "Logs_20140328", "cloudwatch": "GraniteServiceVersion20100801"}
SIGNED_AS = {"cloudwatch": "monitoring"}
IMPLEMENTED = {service: sorted(found) for service, found in app.operations().items() if service in TARGETS}

_local = threading.local()


def send(server: Server, request: generated.Generated) -> tuple[int, dict[str, str], bytes]:
    """Over a connection that its thread keeps."""
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": f"{TARGETS[request.service]}.{request.operation}",
    }
    return post(server, request.service, "/", headers, request.body)


def post(
    server: Server, service: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    if getattr(_local, "port", None) != server.port:
        _local.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        _local.port = server.port
    signed = botocore.awsrequest.AWSRequest("POST", server.url + path, data=body, headers=headers)
    credentials = botocore.credentials.Credentials(KEY_ID, SECRET)
    botocore.auth.SigV4Auth(credentials, SIGNED_AS.get(service, service), REGION).add_auth(signed)
    _local.connection.request("POST", path, body, dict(signed.headers.items()))
    answer = _local.connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def problem(request: generated.Generated, status: int, headers: dict[str, str], body: bytes) -> str | None:
    """What is wrong with an answer; None when nothing is."""
    if status >= 500:
        return f"status {status}"
    if not headers.get("x-amzn-requestid"):
        return "no x-amzn-RequestId"
    model = service_model.operation(request.service, request.operation)
    try:
        parsed = botocore.parsers.create_parser("json").parse(
            {"status_code": status, "headers": headers, "body": body}, model and model.output_shape
        )
    except Exception as error:
        return f"botocore cannot read the answer: {error!r}"
    if status >= 300:
        error = parsed.get("Error", {})
        return None if error.get("Code") and error.get("Message") else f"an error without code or message: {parsed}"
    if request.kind == "garbage":
        return None
    problems = service_model.check_response(request.service, request.operation, json.loads(body or b"{}"))
    return "; ".join(problems) or None


def run(server: Server, count: int) -> Counter[str]:
    """Send that many requests from several threads; returns how many ended how."""
    outcomes: Counter[str] = Counter()
    # Enough for models and endpoints to be made; what is in it ends whoever starts it.
    server.s3.put_object(Bucket=BUCKET, Key="generated/here/model.tar.gz", Body=b"no archive")

    def one(number: int) -> str:
        request = generated.request(SEED, number, IMPLEMENTED)
        status, headers, body = send(server, request)
        wrong = problem(request, status, headers, body)
        assert wrong is None, f"{wrong}\n{request}\nanswer {status}: {body[:2000]!r}\n{server.log()[-3000:]}"
        return f"{request.kind} {status}"

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for outcome in pool.map(one, range(count)):
            outcomes[outcome] += 1
    return outcomes


def test_some_hundred_generated_requests_are_answered(server: Server) -> None:
    outcomes = run(server, 400)
    assert outcomes["valid 200"] > 20
    assert outcomes["broken 400"] > 20


@pytest.mark.slow
def test_ten_thousand_generated_requests_are_answered(server: Server) -> None:
    outcomes = run(server, 10_000)
    print(dict(outcomes))
    assert sum(outcomes.values()) == 10_000
    assert server.answers()


@pytest.mark.parametrize("service", ["sts", "iam", "cloudwatch"])
def test_generated_forms_are_answered(server: Server, service: str) -> None:
    """The Query protocol: what comes back is XML that botocore reads."""
    names = sorted(app.operations()[service])
    for number in range(300):
        body = generated.form(random.Random(f"{SEED}/{service}/{number}"), service, names)
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        status, answered, content = post(server, service, "/", headers, body)
        assert status < 500, (body, content, server.log()[-3000:])
        assert answered["x-amzn-requestid"]
        parsed = botocore.parsers.create_parser("query").parse(
            {"status_code": status, "headers": answered, "body": content}, None
        )
        assert status == 200 or (parsed["Error"]["Code"] and parsed["Error"]["Message"]), (body, content)


def test_generated_cbor_is_answered(server: Server) -> None:
    for number in range(300):
        rng = random.Random(f"{SEED}/{number}")
        operation = rng.choice(["PutMetricData", "ListMetrics", "DescribeAlarms", "GetMetricData", "Nothing"])
        body = generated.cbor(rng)
        path = f"/service/GraniteServiceVersion20100801/operation/{operation}"
        headers = {"Content-Type": "application/cbor", "Smithy-Protocol": "rpc-v2-cbor"}
        status, answered, content = post(server, "cloudwatch", path, headers, body)
        assert status < 500, (body[:200], content, server.log()[-3000:])
        parsed = botocore.parsers.create_parser("smithy-rpc-v2-cbor").parse(
            {"status_code": status, "headers": answered, "body": content}, None
        )
        assert status == 200 or parsed["Error"]["Code"], (body[:200], content)


def test_valid_requests_of_the_generator_are_valid() -> None:
    """Otherwise it would test the validation alone."""
    requests = (generated.request(SEED, number, IMPLEMENTED) for number in range(2_000))
    refused = Counter[str]()
    total = 0
    for request in requests:
        if request.kind in ("valid", "bound"):
            total += 1
            try:
                service_model.check_request(request.service, request.operation, json.loads(request.body))
            except Exception as error:
                refused[str(error)[:200]] += 1
    assert sum(refused.values()) < total / 10, refused.most_common(5)
