"""Application Auto Scaling of endpoint variants: scalable targets and target tracking policies. `hosting` scales.

Only `sagemaker:variant:DesiredInstanceCount`, tracked by SageMakerVariantInvocationsPerInstance; all else is refused in
words. A policy makes no CloudWatch alarms, as it does on AWS: what it goes by is looked at directly.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable
from typing import Any

from local_sagemaker.hosting import autoscaling, deployment
from local_sagemaker.hosting.autoscaling import DIMENSION, KIND, METRIC, Autoscaling
from local_sagemaker.operations.cloudwatch import position, token
from local_sagemaker.settings import Settings
from local_sagemaker.state.store import AlreadyExistsError, GoneError, Record, Store
from local_sagemaker.wire.errors import ApiError, validation

_VARIANT = re.compile(r"endpoint/([^/]+)/variant/([^/]+)")
_LISTED = 50
_POLICIES_OF_A_TARGET = 50


def register_scalable_target(
    request: dict[str, Any], *, autoscaling: Autoscaling, store: Store, settings: Settings
) -> dict[str, Any]:
    """The target with new bounds where there is one, which takes no tags here; what is not named stays.

    Source of the refusal: AWS's own words, in issue 31839 of terraform-provider-aws.
    """
    name = _resource(request)
    _check_variant(store, name)
    now = time.time()
    arn = f"arn:aws:application-autoscaling:{settings.region}:{settings.account}:scalable-target/"
    known = store.get(KIND, name)
    if known and request.get("Tags"):
        raise _tagged_already()
    before = known.describe if known else {}
    both = ((member, request.get(member, before.get(member))) for member in ("MinCapacity", "MaxCapacity"))
    bounds: dict[str, Any] = {member: value for member, value in both if value is not None}
    _check_bounds(bounds)
    describe = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": name,
        "ScalableDimension": DIMENSION,
        "RoleARN": request.get("RoleARN")
        or f"arn:aws:iam::{settings.account}:role/aws-service-role/sagemaker.application-autoscaling."
        "amazonaws.com/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint",
        "CreationTime": now,
        "SuspendedState": dict.fromkeys(_SUSPENDED, False) | request.get("SuspendedState", {}),
        "ScalableTargetARN": f"{arn}{uuid.uuid4().hex[:28]}",
    }

    def change(record: Record) -> None:
        record.describe |= bounds
        record.describe["SuspendedState"] |= request.get("SuspendedState", {})

    internal = {"policies": {}, "activities": [], "tags": request.get("Tags", {})}
    try:
        record = store.insert(KIND, name, describe | bounds, internal)
    except AlreadyExistsError:
        if request.get("Tags"):
            raise _tagged_already() from None
        record = store.update(KIND, name, change)
    autoscaling.wake()
    return {"ScalableTargetARN": record.describe["ScalableTargetARN"]}


def describe_scalable_targets(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    _require_sagemaker(request)
    asked = request.get("ResourceIds")
    found = [record.describe for record in _targets(store) if asked is None or record.name in asked]
    return _page(request, "ScalableTargets", found)


def deregister_scalable_target(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    name = _resource(request)
    if not store.delete(KIND, name):
        raise _no_target(name)
    return {}


def put_scaling_policy(
    request: dict[str, Any], *, autoscaling: Autoscaling, store: Store, settings: Settings
) -> dict[str, Any]:
    name, policy = _resource(request), request["PolicyName"]
    config = _tracking(request)
    account = f"{settings.region}:{settings.account}"
    arn = f"arn:aws:autoscaling:{account}:scalingPolicy:{uuid.uuid4()}:resource/sagemaker/{name}:policyName/{policy}"

    def change(record: Record) -> None:
        policies = record.internal["policies"]
        known = policies.get(policy, {"PolicyARN": arn, "CreationTime": time.time()})
        if policy not in policies and len(policies) >= _POLICIES_OF_A_TARGET:
            raise ApiError(
                "LimitExceededException", f"{name} has {len(policies)} scaling policies, the most there may be."
            )
        policies[policy] = known | {
            "PolicyName": policy,
            "ServiceNamespace": "sagemaker",
            "ResourceId": name,
            "ScalableDimension": DIMENSION,
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": config,
            "Alarms": [],
        }

    try:
        record = store.update(KIND, name, change)
    except GoneError:
        raise _no_target(name) from None
    autoscaling.wake()
    return {"PolicyARN": record.internal["policies"][policy]["PolicyARN"], "Alarms": []}


def describe_scaling_policies(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    _require_sagemaker(request)
    asked, of = request.get("PolicyNames"), request.get("ResourceId")
    found = [
        policy
        for record in _targets(store)
        for name, policy in sorted(record.internal["policies"].items())
        if (of is None or record.name == of) and (asked is None or name in asked)
    ]
    return _page(request, "ScalingPolicies", found)


def delete_scaling_policy(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    name, policy = _resource(request), request["PolicyName"]

    def change(record: Record) -> None:
        if record.internal["policies"].pop(policy, None) is None:
            raise ApiError("ObjectNotFoundException", f"No scaling policy found for {name}, policy name: {policy}")

    try:
        store.update(KIND, name, change)
    except GoneError:
        raise _no_target(name) from None
    return {}


def describe_scaling_activities(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    """Newest first."""
    _require_sagemaker(request)
    of = request.get("ResourceId")
    found = [
        activity
        for record in _targets(store)
        for activity in record.internal["activities"]
        if of is None or record.name == of
    ]
    return _page(request, "ScalingActivities", sorted(found, key=lambda one: -one["StartTime"]))


# -- parts ------------------------------------------------------------------------------------------------------------

_SUSPENDED = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")


def _targets(store: Store) -> Iterable[Record]:
    return store.list(KIND).page(order="name")


def _page(request: dict[str, Any], member: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    start, most = position(request), min(request.get("MaxResults", _LISTED), _LISTED)
    rest = {"NextToken": token(start + most)} if len(found) > start + most else {}
    return {member: found[start : start + most]} | rest


def _require_sagemaker(request: dict[str, Any]) -> None:
    if request["ServiceNamespace"] != "sagemaker" or request.get("ScalableDimension", DIMENSION) != DIMENSION:
        raise validation(
            f"local_sagemaker scales {DIMENSION} of the service namespace sagemaker, not "
            f"{request.get('ScalableDimension', 'anything')} of {request['ServiceNamespace']}."
        )


def _resource(request: dict[str, Any]) -> str:
    """endpoint/NAME/variant/VARIANT."""
    _require_sagemaker(request)
    name = str(request["ResourceId"])
    if not _VARIANT.fullmatch(name):
        raise validation(f"ResourceId '{name}' is not endpoint/my-endpoint/variant/my-variant.")
    return name


def _check_variant(store: Store, name: str) -> None:
    endpoint, variant = autoscaling.endpoint_and_variant(name)
    record = store.get(deployment.KIND, endpoint)
    serving = {one.name: one for one in deployment.serving(record)} if record else {}
    if variant not in serving or serving[variant].instance_count is None:
        raise validation(f"There is no variant '{variant}' with instances in service at an endpoint '{endpoint}'.")


def _check_bounds(bounds: dict[str, int]) -> None:
    if missing := [member for member in ("MinCapacity", "MaxCapacity") if member not in bounds]:
        raise validation(f"{' and '.join(missing)}: a new scalable target needs both bounds.")
    if not 1 <= bounds["MinCapacity"] <= bounds["MaxCapacity"]:
        raise validation(
            f"MinCapacity {bounds['MinCapacity']} and MaxCapacity {bounds['MaxCapacity']}: the minimum is at least 1 "
            "here, and the maximum no less than it."
        )


def _tracking(request: dict[str, Any]) -> dict[str, Any]:
    config = request.get("TargetTrackingScalingPolicyConfiguration")
    metric = (config or {}).get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
    if request.get("PolicyType", "TargetTrackingScaling") != "TargetTrackingScaling" or metric != METRIC:
        raise validation(f"local_sagemaker has policies of the type TargetTrackingScaling on {METRIC} only.")
    if not config or config["TargetValue"] <= 0:
        raise validation("TargetValue must be above 0.")
    return dict(config)


def _tagged_already() -> ApiError:
    return validation(
        "The scalable target that you tried to tag already exists. To update tags on an existing scalable target, use "
        "the TagResource API."
    )


def _no_target(name: str) -> ApiError:
    return ApiError(
        "ObjectNotFoundException",
        f"No scalable target registered for service namespace: sagemaker, resource ID: {name}, scalable dimension: "
        f"{DIMENSION}",
    )
