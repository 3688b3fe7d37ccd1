"""Asynchronous inference: every acknowledged invocation ends in one object, whatever dies in between."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.config
import botocore.exceptions
import psutil
import pytest

from local_sagemaker.hosting.async_queue import AsyncQueue, Outcome, Queued
from local_sagemaker.hosting.async_work import AsyncRequest
from tests.local_sagemaker.gate import Gate
from tests.local_sagemaker.harness import BUCKET, Server, error
from tests.local_sagemaker.serving import create_config, create_model, deploy, invoke, unique, write_image_map
from tests.object_store import free_ports
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def endpoint(server: Server) -> str:
    return deploy_async(server)


@pytest.fixture(scope="module")
def gate(s3_endpoint: str) -> Iterator[Gate]:
    gate = Gate(s3_endpoint)
    yield gate
    gate.close()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, gate: Gate, images: Path) -> Iterator[Server]:
    """A server for the tests that stop it, or its way to S3."""
    server = Server(tmp_path_factory.mktemp("mortal"), free_ports(1)[0], gate.url, images)
    server.start()
    yield server
    server.stop()


def deploy_async(server: Server, *, failures: bool = True, concurrency: int = 4, **output: Any) -> str:
    prefix = f"s3://{BUCKET}/{unique('async')}"
    output = {"S3OutputPath": f"{prefix}/out"} | ({"S3FailurePath": f"{prefix}/failed"} if failures else {}) | output
    client = {"MaxConcurrentInvocationsPerInstance": concurrency}
    config = {"OutputConfig": output, "ClientConfig": client}
    return deploy(server, create_config(server, create_model(server, version=1), AsyncInferenceConfig=config))


def put_input(server: Server, body: bytes) -> str:
    key = f"inputs/{unique('i')}"
    server.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    return f"s3://{BUCKET}/{key}"


def ask(server: Server, endpoint: str, body: bytes = b"image", **members: Any) -> dict[str, Any]:
    answer: dict[str, Any] = server.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=body, **members)
    return answer


def read(server: Server, uri: str) -> bytes | None:
    bucket, key = uri.removeprefix("s3://").split("/", 1)
    try:
        return bytes(server.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except server.s3.exceptions.NoSuchKey:
        return None


def outcome(server: Server, answer: dict[str, Any]) -> tuple[bytes | None, bytes | None]:
    """(output, failure) as soon as one of them is there."""

    def found() -> tuple[bytes | None, ...]:
        both = read(server, answer["OutputLocation"]), read(server, answer["FailureLocation"])
        return both if both != (None, None) else ()

    output, failed = wait_until(found, lambda: server.log()[-2000:], every_s=0.05)
    return output, failed


def failure(server: Server, answer: dict[str, Any]) -> str:
    output, text = outcome(server, answer)
    assert output is None
    assert text is not None
    return text.decode()


# -- outcomes ---------------------------------------------------------------------------------------------------------


def test_object_is_answered_into_an_object(server: Server, endpoint: str) -> None:
    body = bytes(3 * 2**20)
    answer = server.runtime.invoke_endpoint_async(
        EndpointName=endpoint, InputLocation=put_input(server, body), ContentType="image/png",
        Accept="application/json", CustomAttributes="trace=1", InferenceId="mine",
    )  # fmt: skip
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["InferenceId"] == "mine"
    assert answer["OutputLocation"].endswith(".out")
    assert answer["FailureLocation"].endswith("-error.out")
    output, failed = outcome(server, answer)
    assert failed is None
    assert output
    seen = json.loads(output)
    assert (seen["bytes"], seen["path"]) == (len(body), "/invocations")
    headers = seen["headers"]
    assert (headers["content-type"], headers["accept"]) == ("image/png", "application/json")
    assert headers["x-amzn-sagemaker-custom-attributes"] == "trace=1"
    assert "x-amzn-sagemaker-inputlocation" in headers


def test_inline_body_is_answered(server: Server, endpoint: str) -> None:
    answer = ask(server, endpoint, b"x" * 128_000)
    output, _ = outcome(server, answer)
    assert output
    assert json.loads(output)["bytes"] == 128_000
    assert answer["InferenceId"] in answer["OutputLocation"]


def test_names_of_the_output_can_be_chosen(server: Server, endpoint: str) -> None:
    answer = ask(server, endpoint, S3OutputPathExtension="team/a", Filename="first.json")
    assert answer["OutputLocation"].endswith("/out/team/a/first.json")
    assert answer["FailureLocation"].endswith("/failed/team/a/first.json-error.out")
    assert outcome(server, answer)[0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"unsupported", 'Received client error (415) from primary with message "{"error": "UNSUPPORTED"}"'),
        (b"broken", 'Received server error (500) from primary with message "Traceback: broken"'),
    ],
)
def test_model_errors_become_failure_objects(server: Server, endpoint: str, body: bytes, message: str) -> None:
    assert message in failure(server, ask(server, endpoint, body))


def test_missing_input_becomes_a_failure_object(server: Server, endpoint: str) -> None:
    location = f"s3://{BUCKET}/nowhere/input"
    answer = server.runtime.invoke_endpoint_async(EndpointName=endpoint, InputLocation=location)
    assert failure(server, answer).startswith(f"The input {location} cannot be read")


def test_answer_that_takes_too_long_becomes_a_failure_object(server: Server, endpoint: str) -> None:
    assert "timed out" in failure(server, ask(server, endpoint, b"sleep 20", InvocationTimeoutSeconds=1))


def test_failure_lies_beside_the_output_without_a_path_of_its_own(server: Server) -> None:
    name = deploy_async(server, failures=False)
    answer = ask(server, name, b"broken")
    assert answer["FailureLocation"] == answer["OutputLocation"].replace(".out", "-error.out")
    assert "Traceback: broken" in failure(server, answer)
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_unwritable_output_becomes_a_failure_object(server: Server) -> None:
    name = deploy_async(server, S3OutputPath="s3://no-such-bucket/out")
    answer = ask(server, name)
    bucket, key = answer["FailureLocation"].removeprefix("s3://").split("/", 1)
    wait_until(lambda: "Contents" in server.s3.list_objects_v2(Bucket=bucket, Prefix=key), server.log, every_s=0.1)
    text = server.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    assert text.startswith(f"The output cannot be written to {answer['OutputLocation']}")
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_so_many_are_worked_on_at_once(server: Server) -> None:
    """Two instances with two each: eight of half a second take at least two rounds, and not eight."""
    name = deploy_async(server, concurrency=2)
    began = time.monotonic()
    answers = [ask(server, name, b"sleep 0.5") for _ in range(8)]
    for answer in answers:
        assert outcome(server, answer)[0]
    assert 0.9 < time.monotonic() - began < 8 * 0.5
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_notifications_are_named_in_the_log(server: Server) -> None:
    topic = "arn:aws:sns:us-east-1:000000000000:done"
    name = deploy_async(server, NotificationConfig={"SuccessTopic": topic})
    answer = ask(server, name)
    assert outcome(server, answer)[0]
    group, stream = f"/aws/sagemaker/Endpoints/{name}", "AllTraffic/data-log"

    def said() -> list[str]:
        try:
            events = server.logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]
        except botocore.exceptions.ClientError:
            return []
        return [event["message"] for event in events]

    wait_until(lambda: len(said()) >= 2, every_s=0.05)
    messages = said()
    assert messages[0].startswith(f"[{answer['InferenceId']}] Inference request succeeded.")
    assert messages[1].endswith(f"would notify {topic}; there is no SNS here, nothing is sent")
    server.sagemaker.delete_endpoint(EndpointName=name)


# -- refusals ---------------------------------------------------------------------------------------------------------


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "There is neither a Body nor an InputLocation"),
    ({"Body": b"x", "InputLocation": "s3://b/k"}, "Body and InputLocation are mutually exclusive"),
    ({"Body": b"x" * 128_001}, "the request body has 128001 bytes; at most 128000"),
    ({"InputLocation": "file:///etc/passwd"}, "1 validation error detected"),
    ({"InputLocation": "s3://bucket-alone"}, "InputLocation is 's3://bucket-alone'; it must look like"),
    ({"InputLocation": "https://example.com/x"}, "InputLocation is 'https://example.com/x'; it must look like"),
    ({"Body": b"x", "RequestTTLSeconds": 59}, "1 validation error detected"),
    ({"Body": b"x", "RequestTTLSeconds": 21_601}, "1 validation error detected"),
    ({"Body": b"x", "InvocationTimeoutSeconds": 0}, "1 validation error detected"),
    ({"Body": b"x", "InvocationTimeoutSeconds": 3601}, "1 validation error detected"),
    ({"Body": b"x", "Filename": "../up"}, "1 validation error detected"),
    ({"Body": b"x", "Filename": "two.dots.out"}, "1 validation error detected"),
    ({"Body": b"x", "S3OutputPathExtension": "s3://elsewhere"}, "1 validation error detected"),
    ({"Body": b"x", "InferenceId": "i" * 65}, "1 validation error detected"),
]


@pytest.mark.parametrize(("members", "message"), REFUSED)
def test_calls_that_break_a_rule_are_refused(
    server: Server, endpoint: str, members: dict[str, Any], message: str
) -> None:
    answer = error(lambda: server.runtime.invoke_endpoint_async(EndpointName=endpoint, **members))
    assert answer["Code"] == "ValidationError"
    assert answer["Message"].startswith(message)


def test_each_kind_of_endpoint_has_its_call(server: Server, endpoint: str) -> None:
    other = deploy(server, create_config(server, create_model(server, version=1)))
    answer = error(lambda: ask(server, other))
    assert answer["Code"] == "ValidationError"
    assert answer["Message"].startswith(f"Endpoint {other} is not an asynchronous endpoint")
    answer = error(lambda: invoke(server, endpoint))
    assert answer["Code"] == "ValidationError"
    assert answer["Message"].endswith("call InvokeEndpointAsync.")
    assert error(lambda: ask(server, "nobody"))["Message"] == "Endpoint nobody of account 000000000000 not found."
    server.sagemaker.delete_endpoint(EndpointName=other)


# -- deaths -----------------------------------------------------------------------------------------------------------


def test_worker_that_dies_once_costs_nothing(server: Server, endpoint: str, tmp_path: Path) -> None:
    output, failed = outcome(server, ask(server, endpoint, b"crash once %s/marker" % str(tmp_path).encode()))
    assert failed is None
    assert output


def test_request_that_ends_every_worker_fails(server: Server, endpoint: str) -> None:
    assert "the model process exited" in failure(server, ask(server, endpoint, b"crash"))


def test_what_waits_for_a_deleted_endpoint_fails(server: Server) -> None:
    name = deploy_async(server, concurrency=1)
    answers = [ask(server, name, b"sleep 0.5") for _ in range(12)]
    server.sagemaker.delete_endpoint(EndpointName=name)
    found = [outcome(server, answer) for answer in answers]
    assert all((output is None) != (failed is None) for output, failed in found)
    assert any(failed and b"not found" in failed for _, failed in found)


@pytest.mark.parametrize(("number", "times"), [(signal.SIGKILL, 2), (signal.SIGTERM, 1)])
def test_no_acknowledged_invocation_is_lost(mortal: Server, number: signal.Signals, times: int) -> None:
    """Ended in the middle of 20 invocations, so many times: each ends in exactly one object."""
    name = deploy_async(mortal)
    acknowledged: list[dict[str, Any]] = []

    def ask_one(index: int) -> None:
        body = (b"sleep 0.05", b"broken", b"x" * 1000)[index % 3]
        with contextlib.suppress(botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            acknowledged.append(ask(mortal, name, body))

    for _ in range(times):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(ask_one, index) for index in range(20)]
            concurrent.futures.wait(futures[:12])
            mortal.stop(number)
        mortal.start()
    assert len(acknowledged) >= times * 12
    found = [outcome(mortal, answer) for answer in acknowledged]
    assert all((output is None) != (failed is None) for output, failed in found)
    time.sleep(0.3)  # and the other one does not come later
    found = [outcome(mortal, answer) for answer in acknowledged]
    assert all((output is None) != (failed is None) for output, failed in found)
    assert {output is None for output, _ in found} == {True, False}
    wait_until(lambda: not list((mortal.root / "async").iterdir()), mortal.log)  # each a moment after its upload
    mortal.sagemaker.delete_endpoint(EndpointName=name)


def test_server_killed_while_it_uploads_uploads_again(mortal: Server, gate: Gate) -> None:
    name = deploy_async(mortal)
    gate.opened.clear()
    answers = [ask(mortal, name, body) for body in (b"x", b"broken")]
    with contextlib.closing(sqlite3.connect(mortal.root / "async.db")) as queue:
        decided = "SELECT COUNT(*) FROM invocations WHERE outcome IS NOT NULL"
        wait_until(lambda: queue.execute(decided).fetchone() == (2,), mortal.log, every_s=0.05)
    mortal.stop(signal.SIGKILL)
    gate.opened.set()
    mortal.start()
    assert outcome(mortal, answers[0])[0]
    assert "Traceback: broken" in failure(mortal, answers[1])
    mortal.sagemaker.delete_endpoint(EndpointName=name)


def test_next_server_goes_on_from_what_is_written_down(mortal: Server) -> None:
    """What was decided is uploaded and not asked for again; what has waited too long is not asked for at all."""
    name = deploy_async(mortal)
    mortal.stop()
    prefix = f"s3://{BUCKET}/{unique('left')}"
    request = AsyncRequest(
        headers={}, input_uri=None, output_uri="", failure_uri="", inference_id="i", ttl_s=60, timeout_s=60,
        success_topic=None, error_topic=None,
    )  # fmt: skip
    queue = AsyncQueue(mortal.root / "async.db")
    ages = {"failed": 0, "answered": 0, "new": 0, "old": 61}
    for word, age in ages.items():
        asked = dataclasses.asdict(request)
        asked |= {"output_uri": f"{prefix}/{word}.out", "failure_uri": f"{prefix}/{word}-error.out"}
        queue.put(Queued(id=word, endpoint=name, accepted=time.time() - age, request=asked, body=b"x"))
    queue.decide("failed", Outcome(failure="decided"))
    queue.decide("answered", Outcome(failure=None, content_type="text/plain"))
    (mortal.root / "async/answered.out").write_text("the answer")
    (mortal.root / "async/forgotten.out").write_text("of an invocation that is done")
    queue.close()
    mortal.start()

    def left(word: str) -> tuple[bytes | None, bytes | None]:
        locations = {"OutputLocation": f"{prefix}/{word}.out", "FailureLocation": f"{prefix}/{word}-error.out"}
        return outcome(mortal, locations)

    assert left("failed") == (None, b"decided")
    assert left("answered") == (b"the answer", None)
    output, failed = left("old")
    assert output is None
    assert failed
    assert failed.startswith(b"The request expired: it waited ")
    assert left("new")[0]
    wait_until(lambda: not list((mortal.root / "async").iterdir()), mortal.log)  # each a moment after its upload
    mortal.sagemaker.delete_endpoint(EndpointName=name)


def test_long_queue_takes_no_memory(server: Server) -> None:
    assert server.process
    name = deploy_async(server, concurrency=1)
    process = psutil.Process(server.process.pid)
    before, answers = process.memory_info().rss, []
    ask(server, name, b"sleep 5")
    for _ in range(300):
        answers.append(ask(server, name, b"x" * 128_000))
    assert process.memory_info().rss - before < 20 * 2**20
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_input_without_a_content_type_is_of_the_objects_own(server: Server, endpoint: str) -> None:
    """The SageMaker SDK's predict_async names none in the call."""
    server.s3.put_object(Bucket=BUCKET, Key="async/typed", Body=b"[1]", ContentType="text/x-typed")
    answer = server.runtime.invoke_endpoint_async(EndpointName=endpoint, InputLocation=f"s3://{BUCKET}/async/typed")
    result, _ = outcome(server, answer)
    assert result and json.loads(result)["headers"]["content-type"] == "text/x-typed"
