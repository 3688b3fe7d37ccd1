"""Application Auto Scaling: bounds hold, load brings instances, silence ends them, and no request is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_sagemaker.wire import service_model
from tests.local_sagemaker.hammer import Hammer
from tests.local_sagemaker.harness import Server
from tests.local_sagemaker.serving import create_config, create_model, deploy, wait_endpoint, write_image_map
from tests.object_store import free_ports
from tests.waiting import wait_until

SCALE = 1 / 60
"""A minute takes a second here."""
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
METRIC = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str, images: Path) -> Iterator[Server]:
    arguments = ("--time-scale", str(SCALE), "--max-instances", "3")
    server = Server(tmp_path_factory.mktemp("server"), free_ports(1)[0], s3_endpoint, images, arguments)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def scaling(server: Server) -> Any:
    """A client whose answers are held against the service model."""
    client = server.client("application-autoscaling")

    def check(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        content = {key: value for key, value in parsed.items() if key not in ("ResponseMetadata", "Error")}
        if "Error" not in parsed:
            assert set(content) <= set(model.output_shape.members)

    client.meta.events.register("after-call.application-autoscaling.*", check)
    return client


@pytest.fixture
def endpoint(server: Server) -> Iterator[str]:
    """One instance."""
    name = deploy(server, create_config(server, create_model(server, version=1), instances=1))
    yield name
    wait_endpoint(server, name)
    server.sagemaker.delete_endpoint(EndpointName=name)


def target_of(server: Server, name: str) -> dict[str, str]:
    (variant,) = server.sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"]
    resource = f"endpoint/{name}/variant/{variant['VariantName']}"
    return {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": DIMENSION}


def count(server: Server, name: str) -> int:
    """Instances in service; 0 while they change."""
    told = server.sagemaker.describe_endpoint(EndpointName=name)
    (variant,) = told["ProductionVariants"]
    return int(variant["CurrentInstanceCount"]) if told["EndpointStatus"] == "InService" else 0


def track(scaling: Any, target: dict[str, str], value: float, **config: Any) -> None:
    scaling.put_scaling_policy(
        PolicyName="by-requests",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": value, "PredefinedMetricSpecification": METRIC, "ScaleOutCooldown": 0, "ScaleInCooldown": 0,
        } | config,
        **target,
    )  # fmt: skip


def test_load_brings_instances_and_silence_ends_them(server: Server, scaling: Any, endpoint: str) -> None:
    target = target_of(server, endpoint)
    scaling.register_scalable_target(MinCapacity=1, MaxCapacity=3, **target)
    track(scaling, target, 100)
    with Hammer(server, endpoint) as hammer:
        wait_until(lambda: count(server, endpoint) == 3)
    assert hammer.failures() == []
    wait_until(lambda: count(server, endpoint) == 1)
    activities = scaling.describe_scaling_activities(ServiceNamespace="sagemaker", ResourceId=target["ResourceId"])
    told = [activity["Description"] for activity in activities["ScalingActivities"]]
    assert (told[0], told[-1]) == ("Setting desired instance count to 1.", "Setting desired instance count to 3.")


def test_bounds_hold_without_a_policy(server: Server, scaling: Any, endpoint: str) -> None:
    target = target_of(server, endpoint)
    scaling.register_scalable_target(MinCapacity=2, MaxCapacity=2, **target)
    wait_until(lambda: count(server, endpoint) == 2)
    scaling.register_scalable_target(MinCapacity=1, **target)  # the other bound stays
    (known,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[target["ResourceId"]])[
        "ScalableTargets"
    ]
    assert (known["MinCapacity"], known["MaxCapacity"]) == (1, 2)


def test_only_a_new_target_takes_tags(server: Server, scaling: Any, endpoint: str) -> None:
    target = target_of(server, endpoint)
    scaling.register_scalable_target(MinCapacity=1, MaxCapacity=1, Tags={"team": "vision"}, **target)
    with pytest.raises(ClientError, match=r"that you tried to tag already exists.*TagResource") as caught:
        scaling.register_scalable_target(MinCapacity=1, MaxCapacity=2, Tags={"team": "vision"}, **target)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    (known,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[target["ResourceId"]])[
        "ScalableTargets"
    ]
    assert known["MaxCapacity"] == 1


def test_an_update_may_keep_what_was_scaled(server: Server, scaling: Any, endpoint: str) -> None:
    target = target_of(server, endpoint)
    scaling.register_scalable_target(MinCapacity=2, MaxCapacity=3, **target)
    wait_until(lambda: count(server, endpoint) == 2)
    config = create_config(server, create_model(server, version=2), instances=1)
    server.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config, RetainAllVariantProperties=True)
    wait_endpoint(server, endpoint)
    assert count(server, endpoint) == 2


def test_another_instance_type_is_refused_while_registered(server: Server, scaling: Any, endpoint: str) -> None:
    target = target_of(server, endpoint)
    scaling.register_scalable_target(MinCapacity=1, MaxCapacity=2, **target)
    name, (variant,) = "other-type", server.sagemaker.describe_endpoint_config(
        EndpointConfigName=server.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    )["ProductionVariants"]  # fmt: skip
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant | {"InstanceType": "ml.m5.4xlarge"}]
    )
    with pytest.raises(ClientError, match="deregister it first"):
        server.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=name)
    scaling.deregister_scalable_target(**target)
    server.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=name)


def test_targets_and_policies_go_with_their_endpoint(server: Server, scaling: Any) -> None:
    name = deploy(server, create_config(server, create_model(server, version=1), instances=1))
    target = target_of(server, name)
    scaling.register_scalable_target(MinCapacity=1, MaxCapacity=2, **target)
    track(scaling, target, 100)
    (policy,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=target["ResourceId"])[
        "ScalingPolicies"
    ]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 100
    scaling.delete_scaling_policy(PolicyName="by-requests", **target)
    server.sagemaker.delete_endpoint(EndpointName=name)
    left = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[target["ResourceId"]])
    assert left["ScalableTargets"] == []
    with pytest.raises(ClientError, match="No scalable target registered") as caught:
        scaling.deregister_scalable_target(**target)
    assert caught.value.response["Error"]["Code"] == "ObjectNotFoundException"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"MinCapacity": 3}, "the maximum no less than it"),
        ({"MinCapacity": 0}, "the minimum is at least 1"),
        ({"ResourceId": "endpoint/nobody/variant/AllTraffic"}, "no variant 'AllTraffic' with instances in service"),
        ({"ResourceId": "endpoint/nobody"}, "is not endpoint/my-endpoint/variant/my-variant"),
        ({"ScalableDimension": "sagemaker:inference-component:DesiredCopyCount"}, "local_sagemaker scales sagemaker:v"),
        ({"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}, "of the service namespace sag"),
    ],
)
def test_what_cannot_be_scaled_is_refused(
    server: Server, scaling: Any, endpoint: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ClientError, match=said):
        scaling.register_scalable_target(**target_of(server, endpoint) | {"MinCapacity": 1, "MaxCapacity": 2} | changes)


def test_a_policy_that_is_not_carried_out_is_refused(server: Server, scaling: Any, endpoint: str) -> None:
    target = target_of(server, endpoint)
    with pytest.raises(ClientError, match="No scalable target registered"):
        track(scaling, target, 10)
    scaling.register_scalable_target(MinCapacity=1, MaxCapacity=2, **target)
    with pytest.raises(ClientError, match="TargetTrackingScaling on SageMakerVariantInvocationsPerInstance only"):
        scaling.put_scaling_policy(PolicyName="steps", PolicyType="StepScaling", **target)
    assert service_model.operation("application-autoscaling", "PutScalingPolicy")
