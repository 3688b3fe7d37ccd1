"""What Application Auto Scaling is asked for the instances of an endpoint, and what an update keeps of them."""

from __future__ import annotations

from typing import Any

from retraining.plan import Plan

Request = dict[str, Any]

POLICY = "retraining-invocations"


def scaling(plan: Plan) -> dict[str, Request] | None:
    """RegisterScalableTarget and PutScalingPolicy, by these names; None where the recipe asks for no scaling."""
    asked = plan.recipe.serving.autoscaling
    if asked is None:
        return None
    variant = variant_of(plan.endpoint)
    bounds = {"MinCapacity": asked.min, "MaxCapacity": asked.max}
    tracked = {
        "TargetValue": float(asked.invocations_per_instance),
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    }
    policy = {"PolicyName": POLICY, "PolicyType": "TargetTrackingScaling"}
    return {
        "RegisterScalableTarget": variant | bounds | {"Tags": {t["Key"]: t["Value"] for t in plan.deployment_tags}},
        "PutScalingPolicy": variant | policy | {"TargetTrackingScalingPolicyConfiguration": tracked},
    }


def variant_of(endpoint: str) -> Request:
    """The one variant of each endpoint configuration of ours, as a resource that scales."""
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def retained(plan: Plan) -> Request:
    """Of UpdateEndpoint: what was scaled out for its load is replaced by as many instances. Empty without scaling."""
    if plan.recipe.serving.autoscaling is None:
        return {}
    others = [{"VariantPropertyType": name} for name in ("DesiredWeight", "DataCaptureConfig")]
    return {"RetainAllVariantProperties": True, "ExcludeRetainedVariantProperties": others}
