"""Deployments: traffic that really shifts, alarms that really bring it back, and no request lost in any of it."""

from __future__ import annotations

import concurrent.futures
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import psutil
import pytest

from tests.local_sagemaker.hammer import Hammer
from tests.local_sagemaker.harness import Server, error, has_ended
from tests.local_sagemaker.serving import (
    create_config,
    create_model,
    deploy,
    invoke,
    unique,
    wait_endpoint,
    write_image_map,
)
from tests.local_sagemaker.test_plan import blue_green, percent, rolling
from tests.object_store import free_ports
from tests.waiting import wait_until

SCALE = 0.005
"""A minute of baking takes 0.3 s here."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str, images: Path) -> Iterator[Server]:
    arguments = ("--time-scale", str(SCALE), "--max-instances", "2")
    server = Server(tmp_path_factory.mktemp("server"), free_ports(1)[0], s3_endpoint, images, arguments)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def endpoint(server: Server) -> Iterator[str]:
    """Version 1 on two instances."""
    name = deploy(server, config_of(server, version=1))
    yield name
    wait_endpoint(server, name)
    server.sagemaker.delete_endpoint(EndpointName=name)


def config_of(server: Server, **model: Any) -> str:
    return create_config(server, create_model(server, **model), instances=2)


def update(server: Server, name: str, config: str, policy: dict[str, Any], alarm: str | None = None) -> None:
    if alarm:
        policy = policy | {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]}}
    server.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config, DeploymentConfig=policy)


def describe(server: Server, name: str) -> dict[str, Any]:
    return dict(server.sagemaker.describe_endpoint(EndpointName=name))


def wait_baking(server: Server, name: str) -> dict[str, Any]:
    """Until the fresh fleet gets requests; returns the description."""

    def baking() -> dict[str, Any]:
        answer = describe(server, name)
        pending = answer.get("PendingDeploymentSummary", {"ProductionVariants": [{}]})["ProductionVariants"]
        notes = [note["Status"] for note in pending[0].get("VariantStatus", [])]
        return answer if notes == ["Baking"] else {}

    return wait_until(baking, lambda: str(describe(server, name)), every_s=0.05)


def manual_alarm(server: Server, **changes: Any) -> str:
    """An alarm that nothing but a test sets off."""
    name = unique("alarm")
    request = {
        "AlarmName": name, "Namespace": "Test", "MetricName": name, "Statistic": "Sum", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 0, "ComparisonOperator": "GreaterThanThreshold",
    }  # fmt: skip
    server.client("cloudwatch").put_metric_alarm(**(request | changes))
    return name


def raise_alarm(server: Server, alarm: str) -> None:
    server.client("cloudwatch").set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a test")


# -- shifting ---------------------------------------------------------------------------------------------------------


def test_canary_of_30_percent_is_30_percent_of_the_requests(server: Server, endpoint: str) -> None:
    policy = blue_green("CANARY", CanarySize=percent(30))
    policy["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"] = 3600
    alarm = manual_alarm(server)
    update(server, endpoint, config_of(server, version=2), policy, alarm)
    described = wait_baking(server, endpoint)
    with Hammer(server, endpoint) as hammer:
        hammer.wait_for(600)
    assert hammer.failures() == []
    assert 0.22 < hammer.versions().count(2) / len(hammer.versions()) < 0.38
    (old,), (new,) = described["ProductionVariants"], described["PendingDeploymentSummary"]["ProductionVariants"]
    assert (old["CurrentWeight"], new["CurrentWeight"]) == pytest.approx((0.7, 0.3))
    assert (old["CurrentInstanceCount"], new["CurrentInstanceCount"]) == (2, 2)
    assert new["VariantStatus"][0]["StatusMessage"] == "30% of the requests go to this fleet."
    raise_alarm(server, alarm)  # nobody waits for the hour to end


@pytest.mark.parametrize(
    "policy",
    [
        blue_green("ALL_AT_ONCE", TerminationWaitInSeconds=30),
        blue_green("CANARY", CanarySize=percent(20)),
        blue_green("LINEAR", LinearStepSize=percent(25)),
        rolling(percent(50)),
        {},
    ],
    ids=["all at once", "canary", "linear", "rolling", "default"],
)
def test_every_strategy_loses_no_request(server: Server, endpoint: str, policy: dict[str, Any]) -> None:
    config = config_of(server, version=2)
    with Hammer(server, endpoint, b"sleep 0.02") as hammer:
        hammer.wait_for(20)
        update(server, endpoint, config, policy)
        answer = wait_endpoint(server, endpoint)
        done = time.monotonic()
        hammer.wait_for(50)
    assert hammer.failures() == []
    assert answer["EndpointConfigName"] == config, answer.get("FailureReason")
    assert answer.get("LastDeploymentConfig", {}) == policy
    assert "PendingDeploymentSummary" not in answer
    assert set(hammer.versions(done)) == {2}
    old = {asked.pid for asked in hammer.asked if asked.version == 1}
    assert len(old) == 2
    assert all(has_ended(pid) for pid in old)


def test_rolling_update_adds_instances_batch_by_batch(server: Server, endpoint: str) -> None:
    policy = rolling(percent(50))
    policy["RollingUpdatePolicy"]["WaitIntervalInSeconds"] = 300
    update(server, endpoint, config_of(server, version=2), policy)
    first = wait_baking(server, endpoint)["PendingDeploymentSummary"]["ProductionVariants"][0]
    assert (first["CurrentInstanceCount"], first["DesiredInstanceCount"], first["CurrentWeight"]) == (1, 2, 0.5)
    (last,) = wait_endpoint(server, endpoint)["ProductionVariants"]
    assert (last["CurrentInstanceCount"], last["CurrentWeight"]) == (2, 1.0)


def test_old_fleet_lives_through_the_termination_wait(server: Server, endpoint: str) -> None:
    pid = invoke(server, endpoint)["pid"]
    policy = blue_green("ALL_AT_ONCE", TerminationWaitInSeconds=600)
    update(server, endpoint, config_of(server, version=2), policy)
    with Hammer(server, endpoint) as hammer:
        hammer.wait(lambda: hammer.versions()[-5:] == [2] * 5)
        assert describe(server, endpoint)["EndpointStatus"] == "Updating"
        assert psutil.pid_exists(pid)
    wait_endpoint(server, endpoint)
    assert has_ended(pid)


# -- rolling back -----------------------------------------------------------------------------------------------------


def test_failing_canary_sets_off_its_alarm_and_is_rolled_back(server: Server, endpoint: str) -> None:
    """Nothing is pretended: the new model answers 500, CloudWatch counts it, the alarm goes off, traffic comes back."""
    before = describe(server, endpoint)["EndpointConfigName"]
    alarm = manual_alarm(
        server, Namespace="AWS/SageMaker", MetricName="InvocationModelErrors",
        Dimensions=[{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "AllTraffic"}],
    )  # fmt: skip
    policy = blue_green("CANARY", CanarySize=percent(30))
    policy["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"] = 3600
    with Hammer(server, endpoint) as hammer:
        update(server, endpoint, config_of(server, version=2, answers="errors"), policy, alarm)
        answer = wait_endpoint(server, endpoint)
        back = time.monotonic()
        hammer.wait_for(100)
    assert (answer["EndpointStatus"], answer["EndpointConfigName"]) == ("InService", before)
    assert alarm in answer["FailureReason"]
    assert "PendingDeploymentSummary" not in answer
    assert set(hammer.versions(back)) == {1}
    assert 0 < len(hammer.failures()) < len(hammer.asked) / 2
    assert all("Traceback: broken" in failure for failure in hammer.failures())
    (found,) = server.client("cloudwatch").describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
    assert "greater than the threshold (0" in found["StateReason"]


def test_one_fleet_is_watched_by_its_configuration(server: Server, endpoint: str) -> None:
    """CloudWatch tells both fleets apart, while there are two: one errs, and only what watches that one sees it."""
    before, fresh = describe(server, endpoint)["EndpointConfigName"], config_of(server, version=2, answers="errors")
    names = {"EndpointName": endpoint, "VariantName": "AllTraffic"}

    def alarm_of(config: str) -> str:
        dimensions = [{"Name": key, "Value": value} for key, value in (names | {"EndpointConfigName": config}).items()]
        # A sum, which is judged as it grows: an average waits for the end of its minute, and the bake lasts 18 s here.
        watched = {"Namespace": "AWS/SageMaker", "MetricName": "Invocation5XXErrors", "Statistic": "Sum"}
        return manual_alarm(server, Dimensions=dimensions, TreatMissingData="notBreaching", **watched)

    old, new = alarm_of(before), alarm_of(fresh)
    policy = blue_green("CANARY", CanarySize=percent(30)) | {
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": old}, {"AlarmName": new}]}
    }
    policy["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"] = 3600
    with Hammer(server, endpoint) as hammer:
        update(server, endpoint, fresh, policy)
        answer = wait_endpoint(server, endpoint)
        hammer.wait_for(100)
    assert new in answer["FailureReason"]
    assert old not in answer["FailureReason"]
    states = server.client("cloudwatch").describe_alarms(AlarmNames=[old])["MetricAlarms"]
    assert [alarm["StateValue"] for alarm in states] == ["OK"]
    metrics = server.client("cloudwatch").list_metrics(MetricName="Invocations", Namespace="AWS/SageMaker")["Metrics"]
    ours = [{item["Name"]: item["Value"] for item in metric["Dimensions"]} for metric in metrics]
    for dimensions in (names, names | {"EndpointConfigName": before}, names | {"EndpointConfigName": fresh}):
        assert dimensions in ours


@pytest.mark.parametrize(
    "policy",
    [
        blue_green("CANARY", CanarySize=percent(50)),
        blue_green("LINEAR", LinearStepSize=percent(50)),
        blue_green("ALL_AT_ONCE"),
        rolling(percent(50)),
    ],
    ids=["canary", "linear", "all at once", "rolling"],
)
def test_rollback_of_every_strategy_loses_no_request(server: Server, endpoint: str, policy: dict[str, Any]) -> None:
    alarm = manual_alarm(server)
    statuses = set()
    for part in policy.values():
        part.get("TrafficRoutingConfiguration", part)["WaitIntervalInSeconds"] = 3600
    with Hammer(server, endpoint, b"sleep 0.1") as hammer:
        update(server, endpoint, config_of(server, version=2), policy, alarm)
        hammer.wait(lambda: 2 in hammer.versions())
        raise_alarm(server, alarm)
        while (answer := describe(server, endpoint))["EndpointStatus"] != "InService":
            statuses.add(answer["EndpointStatus"])
            time.sleep(0.02)
        back = time.monotonic()
        hammer.wait_for(20)
    assert hammer.failures() == []
    assert statuses - {"Updating"} == {"RollingBack"}
    assert set(hammer.versions(back)) == {1}
    (variant,) = answer["ProductionVariants"]
    assert (variant["CurrentWeight"], variant["CurrentInstanceCount"]) == (1.0, 2)


def test_deployment_that_takes_too_long_is_rolled_back(server: Server, endpoint: str) -> None:
    """Ten steps of 300 s against a limit of 600 s, which is no shorter with a time scale."""
    policy = blue_green("LINEAR", LinearStepSize=percent(10), MaximumExecutionTimeoutInSeconds=600)
    policy["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"] = 300
    update(server, endpoint, config_of(server, version=2), policy)
    answer = wait_endpoint(server, endpoint)
    assert "longer than 600 seconds (MaximumExecutionTimeoutInSeconds)" in answer["FailureReason"]
    assert {invoke(server, endpoint)["version"] for _ in range(20)} == {1}


def test_fresh_worker_that_dies_while_baking_is_rolled_back(server: Server, endpoint: str) -> None:
    policy = blue_green("ALL_AT_ONCE")
    policy["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"] = 3600
    update(server, endpoint, config_of(server, version=2), policy)
    wait_baking(server, endpoint)
    psutil.Process(invoke(server, endpoint)["pid"]).kill()
    answer = wait_endpoint(server, endpoint)
    assert "exit code 137" in answer["FailureReason"]
    assert invoke(server, endpoint)["version"] == 1


def test_alarm_must_exist(server: Server, endpoint: str) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="no CloudWatch alarm 'nobody'") as caught:
        update(server, endpoint, config_of(server, version=2), blue_green("ALL_AT_ONCE"), "nobody")
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert describe(server, endpoint)["EndpointStatus"] == "InService"


def test_bad_policy_is_refused_before_anything_starts(server: Server, endpoint: str) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="from 0 to 50 percent"):
        update(server, endpoint, config_of(server, version=2), blue_green("CANARY", CanarySize=percent(60)))
    assert describe(server, endpoint)["EndpointStatus"] == "InService"


def test_traffic_is_not_shifted_to_other_names(server: Server, endpoint: str) -> None:
    """As AWS documents; all at once and without a policy they may change."""
    two = create_config(server, create_model(server, version=2), create_model(server, version=2))
    problem = error(lambda: update(server, endpoint, two, blue_green("CANARY", CanarySize=percent(50))))
    assert problem["Message"].startswith("BlueGreenUpdatePolicy: endpoint ")
    assert describe(server, endpoint)["EndpointStatus"] == "InService"
    server.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=two)
    assert wait_endpoint(server, endpoint)["EndpointConfigName"] == two


def test_instances_do_not_become_serverless(server: Server, endpoint: str) -> None:
    """The other way is one way, as AWS documents."""
    name = unique("Config")
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": create_model(server, version=2),
        "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1},
    }
    server.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    problem = error(lambda: server.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=name))
    assert "to a serverless variant" in problem["Message"]
    serverless, instances = deploy(server, name), config_of(server, version=3)
    server.sagemaker.update_endpoint(EndpointName=serverless, EndpointConfigName=instances)
    assert wait_endpoint(server, serverless)["EndpointConfigName"] == instances
    server.sagemaker.delete_endpoint(EndpointName=serverless)


def test_last_deployment_config_can_be_used_again(server: Server, endpoint: str) -> None:
    policy = blue_green("CANARY", CanarySize=percent(50))
    update(server, endpoint, config_of(server, version=2), policy)
    wait_endpoint(server, endpoint)
    server.sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=config_of(server, version=3), RetainDeploymentConfig=True
    )
    wait_baking(server, endpoint)
    assert wait_endpoint(server, endpoint)["LastDeploymentConfig"] == policy


# -- restarts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_in_the_middle_of_a_canary_ends_it(server: Server, endpoint: str, number: signal.Signals) -> None:
    """What served serves at once, and the deployment is carried out from its start."""
    config = config_of(server, version=2, start_s=0.5)
    policy = blue_green("CANARY", CanarySize=percent(30))
    policy["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"] = 200
    update(server, endpoint, config, policy)
    wait_baking(server, endpoint)
    server.stop(number)
    server.start()
    answer = describe(server, endpoint)
    assert answer["EndpointStatus"] == "Updating"
    assert invoke(server, endpoint)["version"] == 1
    assert wait_endpoint(server, endpoint)["EndpointConfigName"] == config
    assert {invoke(server, endpoint)["version"] for _ in range(20)} == {2}


def test_restart_in_the_middle_of_a_rollback_ends_it(server: Server, endpoint: str) -> None:
    before = describe(server, endpoint)["EndpointConfigName"]
    alarm = manual_alarm(server)
    policy = blue_green("CANARY", CanarySize=percent(50))
    policy["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"] = 3600
    update(server, endpoint, config_of(server, version=2), policy, alarm)
    wait_baking(server, endpoint)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        slow = [pool.submit(invoke, server, endpoint, b"sleep 20") for _ in range(10)]  # some on the canary
        time.sleep(0.3)
        raise_alarm(server, alarm)
        wait_until(lambda: describe(server, endpoint)["EndpointStatus"] == "RollingBack")
        server.stop(signal.SIGKILL)
        assert all(future.exception() for future in slow)
    server.start()
    answer = wait_endpoint(server, endpoint)
    assert (answer["EndpointStatus"], answer["EndpointConfigName"]) == ("InService", before)
    assert alarm in answer["FailureReason"]
    assert {invoke(server, endpoint)["version"] for _ in range(20)} == {1}
