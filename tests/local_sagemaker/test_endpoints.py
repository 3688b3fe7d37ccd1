"""Endpoints: serving, switching without a lost request, coming back after anything dies."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import psutil
import pytest

from tests.local_sagemaker.harness import Server, has_ended, refused
from tests.local_sagemaker.serving import (
    create_config,
    create_model,
    deploy,
    invoke,
    unique,
    wait_deleted,
    wait_endpoint,
    write_image_map,
)
from tests.object_store import free_ports
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def endpoint(server: Server) -> str:
    """One endpoint for the tests that only ask."""
    return deploy(server, create_config(server, create_model(server, {"MY_SETTING": "7"}, version=1)))


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str, images: Path) -> Iterator[Server]:
    """A server for the tests that stop it."""
    server = Server(tmp_path_factory.mktemp("mortal"), free_ports(1)[0], s3_endpoint, images)
    server.start()
    yield server
    server.stop()


def update(server: Server, name: str, config: str) -> dict[str, Any]:
    server.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    return wait_endpoint(server, name)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    # A request that reaches the dying process is lost with it, and until it is reaped one of its threads may live.
    wait_until(lambda: not psutil.pid_exists(pid))


# -- invocations ------------------------------------------------------------------------------------------------------


def test_headers_travel_both_ways(server: Server, endpoint: str) -> None:
    answer = server.runtime.invoke_endpoint(
        EndpointName=endpoint, Body=b"\xff\xd8image", ContentType="image/jpeg", Accept="application/json",
        CustomAttributes="trace=1", InferenceId="id-1",
    )  # fmt: skip
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["ContentType"] == "application/json"
    assert answer["CustomAttributes"] == "from-the-model"
    headers = json.loads(answer["Body"].read())["headers"]
    assert headers["content-type"] == "image/jpeg"
    assert headers["accept"] == "application/json"
    assert headers["x-amzn-sagemaker-custom-attributes"] == "trace=1"
    assert headers["x-amzn-sagemaker-inference-id"] == "id-1"
    assert "authorization" not in headers


def test_server_gets_the_models_environment(server: Server, endpoint: str) -> None:
    environment = invoke(server, endpoint)["environment"]
    assert environment["MY_SETTING"] == "7"
    assert 1 <= int(environment["OMP_NUM_THREADS"]) <= 2  # an ml.m5.large has two


@pytest.mark.parametrize(("body", "status", "kind"), [(b"unsupported", 415, "client"), (b"broken", 500, "server")])
def test_model_errors_carry_the_models_answer(
    server: Server, endpoint: str, body: bytes, status: int, kind: str
) -> None:
    answer = refused(lambda: invoke(server, endpoint, body))
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert answer["Error"]["Message"].startswith(f"Received {kind} error ({status}) from primary with message")
    assert answer["OriginalStatusCode"] == status
    assert answer["OriginalMessage"] in ('{"error": "UNSUPPORTED"}', "Traceback: broken")
    assert answer["LogStreamArn"].endswith(f":/aws/sagemaker/Endpoints/{endpoint}")


def test_unknown_endpoint_is_not_found(server: Server) -> None:
    answer = refused(lambda: invoke(server, "nobody"))["Error"]
    assert answer == {"Code": "ValidationError", "Message": "Endpoint nobody of account 000000000000 not found."}


def test_25_megabytes_are_accepted_and_no_more(server: Server, endpoint: str) -> None:
    assert invoke(server, endpoint, bytes(25 * 2**20))["bytes"] == 25 * 2**20
    answer = refused(lambda: invoke(server, endpoint, bytes(25 * 2**20 + 1)))["Error"]
    assert answer["Code"] == "ValidationError"
    assert "26214401 bytes" in answer["Message"]


def test_output_reaches_cloudwatch_logs(server: Server, endpoint: str) -> None:
    invoke(server, endpoint, b"12345")
    group = f"/aws/sagemaker/Endpoints/{endpoint}"

    def messages() -> list[str]:
        try:
            (stream,) = server.logs.describe_log_streams(logGroupName=group)["logStreams"]
        except botocore.exceptions.ClientError:  # no log group before the first line
            return []
        assert stream["logStreamName"].startswith("AllTraffic/")
        events = server.logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
        return [event["message"] for event in events]

    wait_until(lambda: "answering 5 bytes" in messages(), lambda: str(messages()), every_s=0.1)


def test_variants_share_by_weight_and_can_be_named(server: Server) -> None:
    models = [create_model(server, version=version) for version in (1, 2)]
    name = deploy(server, create_config(server, *models, weights=(0.0, 1.0)))
    assert {invoke(server, name)["version"] for _ in range(10)} == {2}
    assert invoke(server, name, TargetVariant="AllTraffic")["version"] == 1
    answer = refused(lambda: invoke(server, name, TargetVariant="Third"))["Error"]
    assert answer["Code"] == "ValidationError"
    server.sagemaker.delete_endpoint(EndpointName=name)


# -- the control plane ------------------------------------------------------------------------------------------------


def test_endpoint_is_described_and_listed(server: Server, endpoint: str) -> None:
    answer = server.sagemaker.describe_endpoint(EndpointName=endpoint)
    (variant,) = answer["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"], variant["CurrentWeight"]) == (1, 1, 1.0)
    listed = server.sagemaker.list_endpoints(NameContains=endpoint, StatusEquals="InService")["Endpoints"]
    assert [item["EndpointArn"] for item in listed] == [answer["EndpointArn"]]


def test_errors_are_sagemakers(server: Server, endpoint: str) -> None:
    client = server.sagemaker
    config = client.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    expected = [
        (lambda: client.describe_endpoint(EndpointName="none"), 'Could not find endpoint "arn:'),
        (lambda: client.delete_endpoint(EndpointName="none"), 'Could not find endpoint "arn:'),
        (
            lambda: client.create_endpoint(EndpointName="new", EndpointConfigName="none"),
            'Could not find endpoint configuration "arn:',
        ),
        (
            lambda: client.create_endpoint(EndpointName=endpoint, EndpointConfigName=config),
            'Cannot create already existing endpoint "arn:',
        ),
        (
            lambda: client.update_endpoint(EndpointName=endpoint, EndpointConfigName=config),
            "Cannot update endpoint with the currently in use endpoint configuration",
        ),
        (lambda: client.describe_endpoint_config(EndpointConfigName="none"), "Could not find endpoint configuration"),
        (lambda: client.delete_endpoint_config(EndpointConfigName="none"), "Could not find endpoint configuration"),
    ]
    for call, message in expected:
        answer = refused(call)["Error"]
        assert answer["Code"] == "ValidationException"
        assert answer["Message"].startswith(message)


def test_model_that_cannot_start_fails_with_its_last_words(server: Server) -> None:
    name = unique("Endpoint")
    config = create_config(server, create_model(server, version=1, start="fail"))
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    answer = wait_endpoint(server, name)
    assert answer["EndpointStatus"] == "Failed"
    assert "exit code 1" in answer["FailureReason"]
    assert "no such weights: model.pth" in answer["FailureReason"]
    other = create_config(server, create_model(server, version=2))
    answer = refused(lambda: server.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=other))["Error"]
    assert "delete it and create it again" in answer["Message"]
    server.sagemaker.delete_endpoint(EndpointName=name)
    wait_deleted(server, name)


def test_reason_begins_with_the_last_line(server: Server) -> None:
    name = unique("Endpoint")
    config = create_config(server, create_model(server, version=1, start="crash"))
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    reason = wait_endpoint(server, name)["FailureReason"]
    first, _, rest = reason.partition("\n")
    assert first.endswith("Last output: RuntimeError: no gpü")
    assert rest.startswith("Before that:\nTraceback") and "model_server.py" in rest


def test_image_without_a_stand_in_fails_with_the_way_out(server: Server) -> None:
    model = unique("Model")
    server.sagemaker.create_model(ModelName=model, PrimaryContainer={"Image": "111122223333.dkr.ecr/mine:1"})
    name = unique("Endpoint")
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=create_config(server, model))
    assert "images.toml" in wait_endpoint(server, name)["FailureReason"]


def test_deleted_endpoint_leaves_no_process(server: Server) -> None:
    name = deploy(server, create_config(server, create_model(server, version=1)))
    pid = invoke(server, name)["pid"]
    server.sagemaker.delete_endpoint(EndpointName=name)
    assert refused(lambda: server.sagemaker.delete_endpoint(EndpointName=name))["Error"]["Message"]
    wait_deleted(server, name)
    assert has_ended(pid)
    assert refused(lambda: invoke(server, name))["Error"]["Code"] == "ValidationError"


def test_deleted_name_can_be_used_again(server: Server) -> None:
    config = create_config(server, create_model(server, version=1))
    name = deploy(server, config)
    server.sagemaker.delete_endpoint(EndpointName=name)

    def created() -> bool:
        with contextlib.suppress(botocore.exceptions.ClientError):
            server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
            return True
        return False

    wait_until(created)
    assert wait_endpoint(server, name)["EndpointStatus"] == "InService"
    assert invoke(server, name)["version"] == 1


# -- updates ----------------------------------------------------------------------------------------------------------


def test_update_loses_no_request(server: Server) -> None:
    name = deploy(server, create_config(server, create_model(server, version=1)))
    old_pid = invoke(server, name)["pid"]
    config = create_config(server, create_model(server, version=2, start_s=0.5))
    versions: list[int] = []
    switched = threading.Event()

    def ask(number: int) -> None:
        versions.append(invoke(server, name, b"sleep 0.02")["version"])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        slow = pool.submit(invoke, server, name, b"sleep 1.5")  # in flight on the old worker while it is retired
        time.sleep(0.2)
        server.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
        assert server.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating"
        busy = refused(lambda: server.sagemaker.delete_endpoint(EndpointName=name))["Error"]["Message"]
        assert busy.startswith("Cannot update in-progress endpoint")
        while not switched.is_set() or len(versions) < 200:
            list(pool.map(ask, range(20)))
            if 2 in versions:
                switched.set()
        assert slow.result()["version"] == 1
    answer = wait_endpoint(server, name)
    assert answer["EndpointConfigName"] == config
    assert len(versions) >= 200
    assert {1, 2} == set(versions)
    assert has_ended(old_pid)
    assert invoke(server, name)["version"] == 2


def test_update_to_a_broken_model_keeps_the_old_one(server: Server) -> None:
    good = create_config(server, create_model(server, version=1))
    name = deploy(server, good)
    pid = invoke(server, name)["pid"]
    answer = update(server, name, create_config(server, create_model(server, version=2, start="fail")))
    assert (answer["EndpointStatus"], answer["EndpointConfigName"]) == ("InService", good)
    assert "no such weights" in answer["FailureReason"]
    assert "PendingDeploymentSummary" not in answer
    assert invoke(server, name)["pid"] == pid
    better = create_config(server, create_model(server, version=3))
    answer = update(server, name, better)
    assert answer["EndpointConfigName"] == better
    assert "FailureReason" not in answer


def test_served_model_may_be_deleted(server: Server) -> None:
    model = create_model(server, version=1)
    config = create_config(server, model)
    name = deploy(server, config)
    server.sagemaker.delete_endpoint_config(EndpointConfigName=config)
    server.sagemaker.delete_model(ModelName=model)
    kill(invoke(server, name)["pid"])
    assert invoke(server, name)["version"] == 1


def test_workers_cpu_and_memory_are_metrics(server: Server, endpoint: str) -> None:
    invoke(server, endpoint)
    cloudwatch, now = server.client("cloudwatch"), datetime.datetime.now(datetime.UTC)
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "AllTraffic"}]
    for name in ("CPUUtilization", "MemoryUtilization"):
        (point,) = cloudwatch.get_metric_statistics(
            Namespace="/aws/sagemaker/Endpoints", MetricName=name, Dimensions=dimensions, Period=86_400,
            StartTime=now - datetime.timedelta(days=2), EndTime=now + datetime.timedelta(days=1),
            Statistics=["Average"],
        )["Datapoints"]  # fmt: skip
        assert point["Average"] > 0
        assert point["Unit"] == "Percent"
