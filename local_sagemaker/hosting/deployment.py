"""A deployment as an endpoint's record tells it: asked for, going on, accepted, rolled back. Pure changes of a record.

`internal` holds `deployment` (what serves), `pending` (what is to be rolled out), `capacities` (new weights and counts
of what serves) and `data_plane` (what the data plane must know of the configuration).
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from local_sagemaker.hosting.variant import Variant
from local_sagemaker.jobs.status import told
from local_sagemaker.state.store import Record

KIND = "endpoint"

IN_PROGRESS = frozenset({"Creating", "Updating", "RollingBack", "Deleting"})
"""Statuses in which the endpoint's thread has something to bring to an end, and API calls must wait."""

DATA_PLANE = ("AsyncInferenceConfig", "DataCaptureConfig")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployment:
    config: str
    """Name of the endpoint configuration."""
    variants: list[Variant]
    policy: dict[str, Any] | None
    """The DeploymentConfig."""
    data_plane: dict[str, Any]
    """The DATA_PLANE members of the endpoint configuration."""

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Deployment:
        return cls(**{**content, "variants": [Variant.from_json(variant) for variant in content["variants"]]})

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def serving(record: Record) -> list[Variant]:
    """The variants that the endpoint serves, or served when the server ended."""
    return [Variant.from_json(variant) for variant in record.internal.get("deployment", [])]


def pending(record: Record) -> Deployment | None:
    content = record.internal.get("pending")
    return Deployment.from_json(content) if content else None


def request(record: Record, deployment: Deployment) -> None:
    """Write into a new or an existing endpoint's record what its thread is to roll out."""
    record.internal["pending"] = deployment.to_json()
    record.internal.pop("rollback_reason", None)
    record.describe.pop("FailureReason", None)
    summaries = [variant.summary(num_workers=0) for variant in deployment.variants]
    if "deployment" in record.internal:
        record.describe["EndpointStatus"] = "Updating"
        record.describe["PendingDeploymentSummary"] = {
            "EndpointConfigName": deployment.config,
            "ProductionVariants": summaries,
            "StartTime": time.time(),
        }
    else:
        record.describe |= {
            "EndpointStatus": "Creating",
            "EndpointConfigName": deployment.config,
            "ProductionVariants": summaries,
        }


def progress(
    record: Record, status: str, message: str, serving: list[dict[str, Any]], fresh: list[dict[str, Any]]
) -> None:
    """What Describe shows in the middle of a deployment: summaries of both fleets, and what the fresh one is doing."""
    note = {"Status": status, "StatusMessage": message, "StartTime": time.time()}
    summaries = [summary | {"VariantStatus": [note]} for summary in fresh]
    if "PendingDeploymentSummary" in record.describe:
        record.describe["ProductionVariants"] = serving
        record.describe["PendingDeploymentSummary"]["ProductionVariants"] = summaries
    else:
        record.describe["ProductionVariants"] = summaries


def accept(record: Record, summaries: list[dict[str, Any]]) -> None:
    deployment = Deployment.from_json(record.internal.pop("pending"))
    record.internal["deployment"] = [variant.to_json() for variant in deployment.variants]
    record.internal["data_plane"] = deployment.data_plane
    record.describe.pop("PendingDeploymentSummary", None)
    record.describe |= {
        "EndpointStatus": "InService",
        "EndpointConfigName": deployment.config,
        "ProductionVariants": summaries,
    }
    if deployment.policy:
        record.describe["LastDeploymentConfig"] = deployment.policy
    for member in DATA_PLANE:
        record.describe.pop(member, None)
    if config := deployment.data_plane.get("AsyncInferenceConfig"):
        record.describe["AsyncInferenceConfig"] = config
    if config := deployment.data_plane.get("DataCaptureConfig"):
        record.describe["DataCaptureConfig"] = _capture_summary(config)


def begin_rollback(record: Record, reason: str) -> None:
    """Nothing has served yet: Failed. Else the endpoint goes back to what it served, and says what went wrong."""
    reason = told(reason)
    if "deployment" in record.internal:
        record.describe["EndpointStatus"] = "RollingBack"
        record.internal["rollback_reason"] = reason
    else:
        record.describe |= {"EndpointStatus": "Failed", "FailureReason": reason}
        record.internal.pop("pending")


def end_rollback(record: Record, summaries: list[dict[str, Any]]) -> None:
    record.internal.pop("pending", None)
    record.describe.pop("PendingDeploymentSummary", None)
    record.describe |= {
        "EndpointStatus": "InService",
        "FailureReason": record.internal.pop("rollback_reason"),
        "ProductionVariants": summaries,
    }


def request_capacities(record: Record, changes: dict[str, dict[str, Any]]) -> None:
    """`changes` by variant name: weight, instance_count, serverless; what is not named stays."""
    record.internal["capacities"] = changes
    record.describe["EndpointStatus"] = "Updating"
    record.describe.pop("FailureReason", None)
    names = {
        "weight": "DesiredWeight",
        "instance_count": "DesiredInstanceCount",
        "serverless": "DesiredServerlessConfig",
    }
    for summary in record.describe["ProductionVariants"]:
        for key, value in changes.get(summary["VariantName"], {}).items():
            summary[names[key]] = value


def changed(variants: list[Variant], changes: dict[str, dict[str, Any]]) -> list[Variant]:
    return [dataclasses.replace(variant, **changes.get(variant.name, {})) for variant in variants]


def with_weight(variant: Variant, weight: float) -> Variant:
    return dataclasses.replace(variant, weight=weight)


def settle_capacities(
    record: Record, variants: list[Variant], summaries: list[dict[str, Any]], failure: str | None
) -> None:
    record.internal.pop("capacities")
    record.internal["deployment"] = [variant.to_json() for variant in variants]
    record.describe |= {"EndpointStatus": "InService", "ProductionVariants": summaries}
    if failure:
        record.describe["FailureReason"] = told(failure)


def retaining(wanted: Deployment, record: Record, excluded: set[str]) -> Deployment:
    """RetainAllVariantProperties: `wanted` with the weights, counts and data capture of what serves.

    `excluded` are the VariantPropertyTypes that are taken from the new configuration after all.
    """
    before = {variant.name: variant for variant in serving(record) if variant.serverless is None}
    fields = {"DesiredWeight": "weight", "DesiredInstanceCount": "instance_count"}
    kept = [field for name, field in fields.items() if name not in excluded]
    variants = [
        dataclasses.replace(variant, **{field: getattr(before[variant.name], field) for field in kept})
        if variant.name in before and variant.serverless is None
        else variant
        for variant in wanted.variants
    ]
    data_plane = dict(wanted.data_plane)
    if "DataCaptureConfig" not in excluded:
        data_plane.pop("DataCaptureConfig", None)
        capture = record.internal.get("data_plane", {}).get("DataCaptureConfig")
        data_plane |= {"DataCaptureConfig": capture} if capture else {}
    return dataclasses.replace(wanted, variants=variants, data_plane=data_plane)


def _capture_summary(config: dict[str, Any]) -> dict[str, Any]:
    enabled = config.get("EnableCapture", True)
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }
