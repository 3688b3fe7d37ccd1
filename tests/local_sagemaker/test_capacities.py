"""Weights and instances of what serves: changed while it serves, kept by an update, bounded by the machine."""

from __future__ import annotations

import concurrent.futures
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from tests.local_sagemaker.hammer import Hammer
from tests.local_sagemaker.harness import BUCKET, Server, error, has_ended
from tests.local_sagemaker.serving import (
    create_config,
    create_model,
    deploy,
    invoke,
    unique,
    wait_endpoint,
    write_image_map,
)
from tests.object_store import free_ports


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str, images: Path) -> Iterator[Server]:
    arguments = ("--max-instances", "3")
    server = Server(tmp_path_factory.mktemp("server"), free_ports(1)[0], s3_endpoint, images, arguments)
    server.start()
    yield server
    server.stop()


def change(server: Server, name: str, variant: str = "AllTraffic", **desired: Any) -> None:
    server.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": variant, **desired}]
    )


def counts(answer: dict[str, Any]) -> list[tuple[int, int]]:
    return [(item["CurrentInstanceCount"], item["DesiredInstanceCount"]) for item in answer["ProductionVariants"]]


def test_an_instance_is_a_worker_up_to_the_limit(server: Server) -> None:
    name = deploy(server, create_config(server, create_model(server, version=1), instances=5))
    with Hammer(server, name) as hammer:
        hammer.wait(lambda: len({asked.pid for asked in hammer.asked}) == 3)
        hammer.wait_for(50)
    assert len({asked.pid for asked in hammer.asked}) == 3
    assert counts(server.sagemaker.describe_endpoint(EndpointName=name)) == [(3, 5)]
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_weights_hold_at_once(server: Server) -> None:
    models = [create_model(server, version=version) for version in (1, 2)]
    name = deploy(server, create_config(server, *models, weights=(1.0, 0.0)))
    with Hammer(server, name) as hammer:
        hammer.wait_for(30)
        server.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name,
            DesiredWeightsAndCapacities=[
                {"VariantName": "AllTraffic", "DesiredWeight": 0.0},
                {"VariantName": "Second", "DesiredWeight": 1.0},
            ],
        )
        answer = wait_endpoint(server, name)
        changed = time.monotonic()
        hammer.wait_for(30)
    assert hammer.failures() == []
    assert set(hammer.versions(until=changed)) >= {1}
    assert set(hammer.versions(since=changed)) == {2}
    weights = [(item["CurrentWeight"], item["DesiredWeight"]) for item in answer["ProductionVariants"]]
    assert weights == [(0.0, 0.0), (1.0, 1.0)]
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_instances_come_and_go_without_a_lost_request(server: Server) -> None:
    name = deploy(server, create_config(server, create_model(server, version=1)))
    with Hammer(server, name, b"sleep 0.05") as hammer:
        change(server, name, DesiredInstanceCount=3)
        answer = wait_endpoint(server, name)
        assert counts(answer) == [(3, 3)]
        hammer.wait(lambda: len({asked.pid for asked in hammer.asked[-20:]}) == 3)
        change(server, name, DesiredInstanceCount=1)
        assert counts(wait_endpoint(server, name)) == [(1, 1)]
        fewer = time.monotonic()
        hammer.wait_for(30)
    assert hammer.failures() == []
    (pid,) = {asked.pid for asked in hammer.asked if asked.at >= fewer}
    assert all(has_ended(asked.pid) for asked in hammer.asked if asked.pid != pid)
    assert answer["EndpointConfigName"] == server.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_instance_that_cannot_start_leaves_those_that_serve(server: Server) -> None:
    model = create_model(server, version=1)
    name = deploy(server, create_config(server, model))
    url = server.sagemaker.describe_model(ModelName=model)["PrimaryContainer"]["ModelDataUrl"]
    server.s3.delete_object(Bucket=BUCKET, Key=url.split("/", 3)[3])
    change(server, name, DesiredInstanceCount=2)
    answer = wait_endpoint(server, name)
    assert answer["EndpointStatus"] == "InService"
    assert answer["FailureReason"].startswith("Variant AllTraffic could not get 2 instances")
    assert counts(answer) == [(1, 1)]
    assert invoke(server, name)["version"] == 1
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_killed_server_goes_on_with_a_change(server: Server) -> None:
    name = deploy(server, create_config(server, create_model(server, version=1, start_s=1)))
    change(server, name, DesiredInstanceCount=2)
    assert server.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating"
    server.stop(signal.SIGKILL)
    server.start()
    assert counts(wait_endpoint(server, name)) == [(2, 2)]
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_changes_that_make_no_sense_are_refused(server: Server) -> None:
    name = deploy(server, create_config(server, create_model(server, version=1)))
    for desired, message in (
        ({"variant": "Third", "DesiredWeight": 1.0}, 'Variant "Third" is not one of endpoint'),
        ({"DesiredInstanceCount": 0}, "it must be at least 1"),
        ({"ServerlessUpdateConfig": {"MaxConcurrency": 2}}, "is not serverless"),
        ({}, "Nothing is to be changed"),
    ):
        problem = error(lambda desired=desired: change(server, name, **desired))  # type: ignore[misc]
        assert problem["Code"] == "ValidationException"
        assert message in problem["Message"]
    assert error(lambda: change(server, "nobody", DesiredWeight=1.0))["Message"].startswith("Could not find endpoint")
    server.sagemaker.delete_endpoint(EndpointName=name)


@pytest.mark.parametrize(
    ("excluded", "expected"),
    [([], (2, 0.5)), (["DesiredInstanceCount"], (1, 0.5)), (["DesiredWeight"], (2, 1.0))],
)
def test_update_can_retain_what_variants_have(server: Server, excluded: list[str], expected: tuple[int, float]) -> None:
    name = deploy(server, create_config(server, create_model(server, version=1)))
    change(server, name, DesiredInstanceCount=2, DesiredWeight=0.5)
    wait_endpoint(server, name)
    server.sagemaker.update_endpoint(
        EndpointName=name,
        EndpointConfigName=create_config(server, create_model(server, version=2)),
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": word} for word in excluded],
    )
    (variant,) = wait_endpoint(server, name)["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == expected
    assert invoke(server, name)["version"] == 2
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_serverless_variant_takes_as_many_at_once_as_it_may(server: Server) -> None:
    config = unique("Config")
    limits = {"MemorySizeInMB": 1024, "MaxConcurrency": 1}
    variant = {"VariantName": "v", "ModelName": create_model(server, version=1), "ServerlessConfig": limits}
    server.sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=[variant])
    name = deploy(server, config)
    (summary,) = server.sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"]
    assert summary["CurrentServerlessConfig"] == limits
    assert "CurrentInstanceCount" not in summary
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(invoke, server, name, b"sleep 1") for _ in range(2))
        failed = [problem for future in (first, second) if (problem := future.exception())]
    (throttled,) = failed
    assert isinstance(throttled, botocore.exceptions.ClientError)
    assert throttled.response["Error"]["Code"] == "ThrottlingException"
    assert throttled.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    change(server, name, "v", ServerlessUpdateConfig={"MaxConcurrency": 3})
    (summary,) = wait_endpoint(server, name)["ProductionVariants"]
    assert summary["CurrentServerlessConfig"]["MaxConcurrency"] == 3
    server.sagemaker.delete_endpoint(EndpointName=name)
