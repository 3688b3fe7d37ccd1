"""A production variant with its model resolved: what a group of workers serves. Kept in the endpoint's record."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from local_sagemaker.hosting import served_model
from local_sagemaker.hosting.model_server import STARTUP_TIMEOUT_S
from local_sagemaker.hosting.served_model import ServedModel
from local_sagemaker.sandbox.cores import Cores
from local_sagemaker.settings import Settings
from local_sagemaker.state.store import Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    name: str
    model: ServedModel
    weight: float
    instance_count: int | None
    instance_type: str | None
    """None for a serverless variant, like its count."""
    startup_timeout_s: float
    serverless: dict[str, int] | None = None
    """The ServerlessConfig of a variant without instances."""

    @classmethod
    def of(cls, store: Store, settings: Settings, variant: dict[str, Any], *, isolated: bool) -> Variant:
        """From a ProductionVariant of an endpoint config. Raises a ValidationException when its model is gone.

        `isolated`, its EnableNetworkIsolation, takes the network from every model; a model may have none by itself.
        """
        model = served_model.resolve(store, settings, variant["ModelName"])
        return cls(
            name=variant["VariantName"],
            model=dataclasses.replace(model, network_isolation=isolated or model.network_isolation),
            weight=variant.get("InitialVariantWeight", 1.0),
            instance_count=variant.get("InitialInstanceCount"),
            instance_type=variant.get("InstanceType"),
            startup_timeout_s=variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_TIMEOUT_S),
            serverless=variant.get("ServerlessConfig"),
        )

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Variant:
        return cls(**{**content, "model": ServedModel(**content["model"])})

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def num_workers(self, settings: Settings, cores: Cores) -> int:
        """An instance is a worker process, up to `--max-instances`; a serverless variant has one."""
        limit = settings.max_instances or cores.total
        return min(self.instance_count or 1, limit)

    def summary(self, *, num_workers: int, share: float = 1.0) -> dict[str, Any]:
        """Its ProductionVariantSummary while `num_workers` workers get the part `share` of the endpoint's requests.

        CurrentInstanceCount is the number of workers that there are, also where `--max-instances` keeps it below what
        is desired.
        """
        image = {"SpecifiedImage": self.model.image, "ResolvedImage": self.model.image, "ResolutionTime": time.time()}
        answer: dict[str, Any] = {"VariantName": self.name, "DeployedImages": [image], "DesiredWeight": self.weight}
        if num_workers:
            answer["CurrentWeight"] = self.weight * share
        if self.serverless is not None:
            answer["DesiredServerlessConfig"] = self.serverless
            return answer | ({"CurrentServerlessConfig": self.serverless} if num_workers else {})
        return answer | {"DesiredInstanceCount": self.instance_count, "CurrentInstanceCount": num_workers}
