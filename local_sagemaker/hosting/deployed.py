"""What of an endpoint's configuration concerns those who call it, as it is deployed now."""

from __future__ import annotations

import dataclasses
from typing import Any

from local_sagemaker.hosting.deployment import KIND
from local_sagemaker.hosting.endpoint import not_found
from local_sagemaker.settings import Settings
from local_sagemaker.state.store import Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployed:
    asynchronous: dict[str, Any] | None
    """The AsyncInferenceConfig; None for a real-time endpoint."""
    data_capture: dict[str, Any] | None
    """The DataCaptureConfig."""
    instance_count: int
    """Of all variants together; at least one."""
    serverless: bool

    @classmethod
    def find(cls, store: Store, settings: Settings, endpoint: str) -> Deployed:
        """Raises a ValidationError for an endpoint that serves nothing."""
        record = store.get(KIND, endpoint)
        if record is None or "deployment" not in record.internal or record.status == "Deleting":
            raise not_found(settings, endpoint)
        kept = record.internal.get("data_plane", {})
        variants = record.internal["deployment"]
        return cls(
            asynchronous=kept.get("AsyncInferenceConfig"),
            data_capture=kept.get("DataCaptureConfig"),
            instance_count=sum(variant["instance_count"] or 1 for variant in variants),
            serverless=any(variant.get("serverless") for variant in variants),
        )
