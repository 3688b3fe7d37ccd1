"""An endpoint within the recipe's bounds of instances, whatever a release does to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from botocore.exceptions import ClientError

from retraining.environment import ConfigurationError
from retraining.recipe.machines import Autoscaling
from retraining.release.scaling import require_scaling_rights, scale
from retraining.release.serving import Serving
from retraining.requests.autoscaling import scaling, variant_of
from retraining.run import Run, client
from retraining.steps import task_requests as task_requests
from tests.plugins.release_run import Runs, deploy, roll_back, served
from tests.waiting import wait_until

BOUNDS = {"min": 1, "max": 2, "invocations_per_instance": 1000}


def scaled(run: Run, instance_type: str = "ml.m5.large", **bounds: int) -> Run:
    count = bounds.get("min", 1)
    serving = replace(
        run.recipe.serving,
        instance_type=instance_type,
        instance_count=count,
        autoscaling=Autoscaling(**BOUNDS | bounds),
    )
    run.recipe = replace(run.recipe, serving=serving)
    run.plan = replace(run.plan, recipe=run.recipe)
    return run


def target(run: Run) -> dict[str, Any] | None:
    resource = variant_of(run.plan.endpoint)["ResourceId"]
    found = client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[resource]
    )
    return dict(found["ScalableTargets"][0]) if found["ScalableTargets"] else None


def bounds_of(run: Run) -> tuple[int, int] | None:
    found = target(run)
    return (found["MinCapacity"], found["MaxCapacity"]) if found else None


def instances(run: Run) -> int:
    (variant,) = run.sagemaker.describe_endpoint(EndpointName=run.plan.endpoint)["ProductionVariants"]
    return int(variant["DesiredInstanceCount"])


def test_a_served_endpoint_has_the_recipes_bounds(runs: Runs) -> None:
    run = scaled(runs(1))
    deploy(run)
    assert bounds_of(run) == (1, 2)
    (policy,) = client("application-autoscaling").describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId=variant_of(run.plan.endpoint)["ResourceId"]
    )["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 1000
    deploy(scaled(runs(2), max=3))
    assert bounds_of(run) == (1, 3)


def test_tags_are_worth_no_release(runs: Runs) -> None:
    """RegisterScalableTarget with tags needs the right to TagResource, too."""
    run = scaled(runs(1))
    deploy(run)
    run.scaling.deregister_scalable_target(**variant_of(run.plan.endpoint))
    denied = {"Error": {"Code": "AccessDeniedException", "Message": "not authorized: TagResource"}}

    def refuse(params: dict[str, Any], **_: Any) -> None:
        if "Tags" in params:
            raise ClientError(denied, "RegisterScalableTarget")

    event = "provide-client-params.application-autoscaling.RegisterScalableTarget"
    run.scaling.meta.events.register(event, refuse)
    scale(run.scaling, scaling(run.plan))
    assert bounds_of(run) == (1, 2)


def test_going_back_brings_the_bounds_of_now(runs: Runs) -> None:
    before, run = scaled(runs(1)), scaled(runs(2), max=3)
    deploy(before)
    with pytest.raises(AirflowFailException, match="SageMaker rolled the update back"):
        deploy(run, refuses="yes")
    with pytest.raises(AirflowSkipException, match="nothing to roll back"):
        roll_back(run)
    assert (served(run), bounds_of(run)) == (before.plan.endpoint_config, (1, 3))


def test_without_the_key_nobody_is_asked(runs: Runs) -> None:
    run = runs(1)
    deploy(run)
    assert bounds_of(run) is None
    config = task_requests.endpoint_request(run)
    assert (config["Scaling"], config["Retained"]) == (None, {})


def test_an_update_keeps_what_was_scaled_out(runs: Runs) -> None:
    first, second = scaled(runs(1)), scaled(runs(2))
    deploy(first)
    # As much load would have done.
    client("application-autoscaling").register_scalable_target(
        **variant_of(first.plan.endpoint), MinCapacity=2, MaxCapacity=2
    )
    wait_until(lambda: instances(first) == 2)
    first.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=first.plan.endpoint, WaiterConfig={"Delay": 1})
    deploy(second)
    assert (served(second), instances(second)) == (second.plan.endpoint_config, 2)


def test_another_instance_type_makes_way_and_is_scaled_again(runs: Runs) -> None:
    deploy(scaled(runs(1)))
    run = scaled(runs(2), "ml.m5.xlarge")
    deploy(run)
    assert (served(run), bounds_of(run)) == (run.plan.endpoint_config, (1, 2))


def test_a_recipe_that_scales_no_more_may_change_its_machine(runs: Runs) -> None:
    deploy(scaled(runs(1)))
    run = runs(2)
    run.recipe = replace(run.recipe, serving=replace(run.recipe.serving, instance_type="ml.m5.xlarge"))
    run.plan = replace(run.plan, recipe=run.recipe)
    deploy(run)
    assert (served(run), bounds_of(run)) == (run.plan.endpoint_config, None)


def test_a_release_that_fails_leaves_the_bounds(runs: Runs) -> None:
    before, run = scaled(runs(1)), scaled(runs(2), "ml.m5.xlarge")
    deploy(before)
    with pytest.raises(AirflowFailException, match="SageMaker rolled the update back"):
        deploy(run, refuses="yes")
    assert bounds_of(run) is None  # it made way
    with pytest.raises(AirflowSkipException, match="nothing to roll back"):
        roll_back(run)
    assert (served(run), bounds_of(run)) == (before.plan.endpoint_config, (1, 2))


def test_going_back_keeps_the_bounds(runs: Runs) -> None:
    before, run = scaled(runs(1)), scaled(runs(2), "ml.m5.xlarge")
    for one in (before, run):
        deploy(one)
    document = {
        "run_name": before.plan.run_name,
        "model": before.plan.model,
        "endpoint_config": before.plan.endpoint_config,
        "image": before.images.serving,
        "model_data_url": before.model_data_url,
    }
    clients = {"s3": run.s3, "sagemaker": run.sagemaker, "runtime": run.runtime, "scaling": run.scaling}
    Serving(plan=run.plan, **clients).serve(document, None)
    assert (served(run), bounds_of(run)) == (before.plan.endpoint_config, (1, 2))


def test_rights_that_lack_are_told_before_anything_is_paid(runs: Runs) -> None:
    run = scaled(runs(1))
    asked = scaling(run.plan) or {}
    require_scaling_rights(run.scaling, asked)
    denied = {"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}

    class Closed:
        def describe_scalable_targets(self, **_: Any) -> None:
            raise ClientError(denied, "DescribeScalableTargets")

    with pytest.raises(ConfigurationError, match=r"refuses to be asked.*DeregisterScalableTarget, or take the key"):
        require_scaling_rights(Closed(), asked)
