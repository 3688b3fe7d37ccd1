"""An endpoint's instances within the recipe's bounds: registered once it serves, and out of an update's way.

SageMaker refuses an update to another instance type while a variant is a scalable target, and deregisters what it
deletes (developer guide, "Update endpoints that use auto scaling"). Where a recipe has no bounds, nothing is asked but
for that.
`scaling` is a client of Application Auto Scaling, `asked` what `requests.autoscaling.scaling` says.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from retraining.environment import ConfigurationError
from retraining.job_kinds import DENIED, is_missing
from retraining.requests.autoscaling import variant_of

log = logging.getLogger(__name__)

SERVICE = "application-autoscaling"


def scale(scaling: Any, asked: Mapping[str, Any] | None) -> None:
    """To ask the same again changes nothing."""
    if not asked:
        return
    bounds = asked["RegisterScalableTarget"]
    _register(scaling, bounds)
    scaling.put_scaling_policy(**asked["PutScalingPolicy"])
    log.info("%s has %d to %d instances.", bounds["ResourceId"], bounds["MinCapacity"], bounds["MaxCapacity"])


def _register(scaling: Any, bounds: Mapping[str, Any]) -> None:
    """Tags are for whoever looks at the bill: only a new target takes them, and a right of their own it needs.

    Nothing here goes by them, so they are worth no release.
    """
    try:
        scaling.register_scalable_target(**bounds)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("ValidationException", *DENIED):
            raise
        scaling.register_scalable_target(**{key: value for key, value in bounds.items() if key != "Tags"})


def scale_if_possible(scaling: Any, asked: Mapping[str, Any] | None) -> None:
    """The same after a release that failed: that the endpoint serves matters more."""
    try:
        scale(scaling, asked)
    except ClientError as error:
        log.warning("The endpoint's instances are as they are, and not scaled: %s", error)


def make_way(sagemaker: Any, scaling: Any, endpoint: str, before: str, after: str) -> None:
    """Without scaling while an update from one endpoint configuration to another changes the instance type.

    Also where the recipe asks for none, for it may have asked until last week.
    """
    if _instance_types(sagemaker, before) != _instance_types(sagemaker, after):
        variant = variant_of(endpoint)
        log.info("%s gets another instance type and is not scaled meanwhile.", variant["ResourceId"])
        try:
            scaling.deregister_scalable_target(**variant)
        except scaling.exceptions.ObjectNotFoundException:
            log.info("It was not scaled.")
        except ClientError as error:
            if error.response["Error"]["Code"] not in DENIED:
                raise
            log.warning("Whether it is scaled is not known, and nothing is changed: %s", error)


def require_scaling_rights(scaling: Any, asked: Mapping[str, Any]) -> None:
    """ConfigurationError where Application Auto Scaling is closed: that would show when all is paid for."""
    variant = {key: asked["RegisterScalableTarget"][key] for key in ("ServiceNamespace", "ScalableDimension")}
    try:
        scaling.describe_scalable_targets(**variant, MaxResults=1)
    except ClientError as error:
        if error.response["Error"]["Code"] not in DENIED:
            raise
        raise ConfigurationError(
            f"serving.autoscaling: Application Auto Scaling refuses to be asked: {error} Allow "
            "application-autoscaling:RegisterScalableTarget, PutScalingPolicy, DescribeScalableTargets and "
            "DeregisterScalableTarget, or take the key out of the recipe."
        ) from error


def _instance_types(sagemaker: Any, config: str) -> set[str | None]:
    """Of its variants; of a configuration that was deleted nothing is known."""
    try:
        variants = sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    except ClientError as error:
        if not is_missing(error):
            raise
        return set()
    return {variant.get("InstanceType") for variant in variants}
