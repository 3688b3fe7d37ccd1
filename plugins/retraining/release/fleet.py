"""The machines of an endpoint configuration, and which requests they keep: what a recipe may change without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MACHINES = ("InstanceType", "InitialInstanceCount")
CAPTURE = ("DestinationS3Uri", "InitialSamplingPercentage", "CaptureOptions")


def fleet(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of CreateEndpointConfig's request or DescribeEndpointConfig's answer: equal where nothing of it was changed."""
    variants = {v["VariantName"]: [v.get(key) for key in MACHINES] for v in config["ProductionVariants"]}
    capture = config.get("DataCaptureConfig") or {}
    kept = [capture.get(key) for key in CAPTURE] if capture.get("EnableCapture") else None
    return {"variants": variants, "capture": kept}


def in_words(config: Mapping[str, Any]) -> str:
    """For example: 4 x ml.c5.xlarge, keeping 10 % of the requests."""
    found = fleet(config)
    machines = " and ".join(f"{count} x {kind}" for kind, count in found["variants"].values())
    return f"{machines}, keeping {found['capture'][1]} % of the requests" if found["capture"] else machines
