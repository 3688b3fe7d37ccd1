"""InvokeEndpoint: what it forwards, answers, refuses and measures, and what survives a worker's death."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import http.client
import json
import socket
from pathlib import Path
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.exceptions
import psutil
import pytest

from tests.local_sagemaker.harness import Server, refused
from tests.local_sagemaker.serving import create_config, create_model, deploy, invoke, unique, write_image_map
from tests.object_store import KEY_ID, REGION, SECRET
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def endpoint(server: Server) -> str:
    return deploy(server, create_config(server, create_model(server, version=1)))


def signed(server: Server, path: str, body: bytes, headers: dict[str, str] | None = None) -> dict[str, str]:
    """Headers of a correctly signed request, for what boto3 does not send."""
    request = botocore.awsrequest.AWSRequest("POST", f"{server.url}{path}", headers or {}, data=body)
    credentials = botocore.credentials.Credentials(KEY_ID, SECRET)
    botocore.auth.SigV4Auth(credentials, "sagemaker", REGION).add_auth(request)
    return dict(request.headers.items())


def post(server: Server, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


# -- headers ----------------------------------------------------------------------------------------------------------


def test_sessions_stay_with_their_worker(server: Server, endpoint: str) -> None:
    """From the answer that opens one to the answer that closes it; there are two workers."""

    def ask(**members: Any) -> tuple[dict[str, Any], int]:
        answer = server.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x", **members)
        return answer, int(json.loads(answer["Body"].read())["pid"])

    for _ in range(5):
        opened, pid = ask(SessionId="NEW_SESSION")
        session, _, expires = opened["NewSessionId"].partition("; ")
        assert (session.split("-")[1], expires) == (str(pid), "Expires=2030-01-01T00:00:00Z")
        assert {ask(SessionId=session, CustomAttributes="go on")[1] for _ in range(5)} == {pid}
        closed, _ = ask(SessionId=session, CustomAttributes="goodbye")
        assert closed["ClosedSessionId"] == session
        assert "NewSessionId" not in closed


def test_named_variant_answers(server: Server, endpoint: str) -> None:
    answer = server.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x", TargetVariant="AllTraffic")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    answer = refused(lambda: invoke(server, endpoint, TargetVariant="Nobody"))["Error"]
    assert answer["Code"] == "ValidationError"
    assert "Nobody" in answer["Message"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"TargetModel": "a.tar.gz"}, "TargetModel does not apply to endpoint"),
    ({"TargetContainerHostname": "second"}, "TargetContainerHostname does not apply to endpoint"),
    ({"InferenceComponentName": "part"}, "InferenceComponentName does not apply to endpoint"),
    ({"EnableExplanations": "`true`"}, "EnableExplanations does not apply to endpoint"),
    ({"CustomAttributes": "x" * 1025}, "1 validation error detected"),
    ({"InferenceId": "i" * 65}, "1 validation error detected: Value 'iiii"),
    ({"TargetVariant": "-v", "SessionId": "a b"}, "2 validation errors detected"),
    ({"TargetVariant": "-v"}, "1 validation error detected: Value '-v' at 'targetVariant' failed to satisfy"),
    ({"SessionId": "x" * 257}, "1 validation error detected"),
    ({"ContentType": "a/" + "b" * 1023}, "1 validation error detected"),
]


@pytest.mark.parametrize(("members", "message"), REFUSED)
def test_headers_that_break_a_rule_are_refused(
    server: Server, endpoint: str, members: dict[str, Any], message: str
) -> None:
    answer = refused(lambda: invoke(server, endpoint, **members))
    assert answer["Error"]["Code"] == "ValidationError"
    assert answer["Error"]["Message"].startswith(message)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_non_ascii_attributes_are_refused(server: Server, endpoint: str) -> None:
    path = f"/endpoints/{endpoint}/invocations"
    headers = signed(server, path, b"x") | {"X-Amzn-SageMaker-Custom-Attributes": "caf\xe9"}
    status, answer = post(server, path, b"x", headers)
    assert status == 400
    assert "customAttributes" in answer["Message"]


def test_answer_is_passed_on_uncompressed_and_whole(server: Server, endpoint: str) -> None:
    seen = invoke(server, endpoint, ContentType="text/csv; charset=utf-8")
    assert seen["headers"]["accept-encoding"] == "identity"
    assert seen["headers"]["content-type"] == "text/csv; charset=utf-8"
    assert {key for key in seen["headers"] if "auth" in key or "amz-date" in key} == set()


# -- bodies -----------------------------------------------------------------------------------------------------------


def test_large_answers_come_whole(server: Server, endpoint: str) -> None:
    size = 25 * 2**20
    answer = server.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"zeros %d" % size)
    assert answer["Body"].read() == bytes(size)
    answer = refused(lambda: server.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"zeros %d" % (size + 1)))
    assert answer["Error"]["Code"] == "ModelError"


def test_chunked_and_empty_bodies_are_accepted(server: Server, endpoint: str) -> None:
    path = f"/endpoints/{endpoint}/invocations"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("POST", path, iter([b"ab", b"c"]), signed(server, path, b"abc"), encode_chunked=True)
        assert json.loads(connection.getresponse().read())["bytes"] == 3
    assert invoke(server, endpoint, b"")["bytes"] == 0


def test_body_other_than_signed_is_refused(server: Server, endpoint: str) -> None:
    path = f"/endpoints/{endpoint}/invocations"
    status, answer = post(server, path, b"tampered", signed(server, path, b"original"))
    assert status == 403
    assert answer["Message"].startswith("The request signature we calculated does not match")


def test_page_of_another_site_is_refused(server: Server, endpoint: str) -> None:
    path = f"/endpoints/{endpoint}/invocations"
    status, _ = post(server, path, b"x", signed(server, path, b"x") | {"Origin": "https://evil.example"})
    assert status == 403


def test_bodies_far_too_large_fill_no_memory(server: Server, endpoint: str) -> None:
    """Each is told the limit, although nothing of it is kept."""
    assert server.process
    before = psutil.Process(server.process.pid).memory_info().rss
    body, path = bytes(100 * 2**20), f"/endpoints/{endpoint}/invocations"
    headers = signed(server, path, body)
    for _ in range(2):
        status, answer = post(server, path, body, headers)
        assert (status, "104857600 bytes" in answer["Message"]) == (400, True)
    assert psutil.Process(server.process.pid).memory_info().rss - before < 30 * 2**20


def test_serverless_endpoints_accept_less(server: Server) -> None:
    config = unique("Config")
    serverless = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    variant = {"VariantName": "v", "ModelName": create_model(server, version=1), "ServerlessConfig": serverless}
    server.sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=[variant])
    name = deploy(server, config)
    assert invoke(server, name, bytes(4 * 2**20))["bytes"] == 4 * 2**20
    answer = refused(lambda: invoke(server, name, bytes(4 * 2**20 + 1)))["Error"]
    assert (answer["Code"], "at most 4194304" in answer["Message"]) == ("ValidationError", True)
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_body_that_breaks_off_is_no_error_of_the_server(server: Server, endpoint: str) -> None:
    path = f"/endpoints/{endpoint}/invocations"
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nhalf".encode())
    assert invoke(server, endpoint)["version"] == 1
    assert "Traceback" not in server.log()


# -- model errors -----------------------------------------------------------------------------------------------------


def test_answer_that_breaks_off_is_a_model_error(server: Server, endpoint: str) -> None:
    answer = refused(lambda: invoke(server, endpoint, b"half"))
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["OriginalStatusCode"] == 0
    assert "the model process exited" in answer["OriginalMessage"]
    assert invoke(server, endpoint)["version"] == 1


def test_metrics_are_kept_per_variant(server: Server) -> None:
    name = deploy(server, create_config(server, create_model(server, version=1)))
    for body in (b"x", b"x", b"unsupported", b"broken"):
        with contextlib.suppress(botocore.exceptions.ClientError):
            invoke(server, name, body)
    now = datetime.datetime.now(datetime.UTC)
    dimensions = [{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": "AllTraffic"}]

    def total(metric: str) -> float:
        points = server.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SageMaker", MetricName=metric, Dimensions=dimensions, Period=3600, Statistics=["Sum"],
            StartTime=now - datetime.timedelta(hours=1), EndTime=now + datetime.timedelta(hours=1),
        )["Datapoints"]  # fmt: skip
        return float(sum(point["Sum"] for point in points))

    names = ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors", "InvocationModelErrors")
    assert [total(metric) for metric in names] == [4, 1, 1, 2]
    assert total("ModelLatency") > 0
    assert total("OverheadLatency") > 0
    server.sagemaker.delete_endpoint(EndpointName=name)


# -- many, and their ends ---------------------------------------------------------------------------------------------


def test_200_at_once_are_all_answered(server: Server, endpoint: str) -> None:
    config = botocore.config.Config(retries={"total_max_attempts": 1}, max_pool_connections=200)
    client = server.client("sagemaker-runtime", config=config)

    def ask(number: int) -> int:
        answer = client.invoke_endpoint(EndpointName=endpoint, Body=b"sleep 0.5")
        return int(json.loads(answer["Body"].read())["version"])

    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        assert list(pool.map(ask, range(200))) == [1] * 200


def test_clients_that_leave_hold_nothing(server: Server, endpoint: str) -> None:
    """Their connections to the model server are closed, so that a deployment need not wait for them."""
    worker = psutil.Process(invoke(server, endpoint)["pid"])
    path, body = f"/endpoints/{endpoint}/invocations", b"sleep 600"
    for _ in range(5):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        connection.request("POST", path, body, signed(server, path, body))
        wait_until(lambda: established(worker))
        assert connection.sock
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        wait_until(lambda: not established(worker), patience_s=30)  # at 60 s the invocation is over anyway


def established(process: psutil.Process) -> list[Any]:
    return [item for item in process.net_connections("tcp") if item.status == psutil.CONN_ESTABLISHED]


def test_request_that_a_worker_never_read_goes_to_the_next(server: Server) -> None:
    """A stopped process has connections, and reads nothing of them before it is killed."""
    name = deploy(server, create_config(server, create_model(server, version=1)))
    workers = {psutil.Process(invoke(server, name)["pid"]) for _ in range(20)}
    ports = {item.laddr.port for worker in workers for item in worker.net_connections("tcp")}
    assert server.process
    process = psutil.Process(server.process.pid)
    for worker in workers:
        worker.suspend()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(invoke, server, name, bytes(50_000)) for _ in range(4)]
        wait_until(lambda: sum(item.raddr.port in ports for item in established(process)) >= 4)
        for worker in workers:
            worker.kill()
        seen = [answer.result() for answer in waiting]
    assert {answer["bytes"] for answer in seen} == {50_000}
    assert {answer["pid"] for answer in seen}.isdisjoint(worker.pid for worker in workers)
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_requests_wait_for_a_worker_that_is_restarted(server: Server) -> None:
    name = deploy(server, create_config(server, create_model(server, version=1)))
    pid = invoke(server, name)["pid"]
    psutil.Process(pid).kill()
    assert invoke(server, name)["pid"] != pid
    server.sagemaker.delete_endpoint(EndpointName=name)
