"""Application Auto Scaling in memory: which variants of endpoints are scalable targets, and by which policy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.faults.wire import Refusal

Document = dict[str, Any]


class Autoscaling:
    """Targets and policies by the ResourceId of their variant."""

    def __init__(self) -> None:
        self.targets: dict[str, Document] = {}
        self.policies: dict[str, Document] = {}

    def answer(self, operation: str, request: Mapping[str, Any]) -> Document:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower()
        return dict(getattr(self, f"_{name}")(request))

    def of(self, endpoint: str) -> list[str]:
        """The targets of an endpoint."""
        return [resource for resource in self.targets if resource.startswith(f"endpoint/{endpoint}/")]

    def forget(self, endpoint: str) -> None:
        """With the endpoint its targets go."""
        for resource in self.of(endpoint):
            self._deregister_scalable_target({"ResourceId": resource})

    def _register_scalable_target(self, request: Mapping[str, Any]) -> Document:
        if request.get("Tags") and request["ResourceId"] in self.targets:
            raise Refusal("ValidationException", "The scalable target that you tried to tag already exists.")
        self.targets[request["ResourceId"]] = dict(request)
        return {"ScalableTargetARN": f"arn:aws:application-autoscaling:us-east-1:0:{request['ResourceId']}"}

    def _deregister_scalable_target(self, request: Mapping[str, Any]) -> Document:
        if request["ResourceId"] not in self.targets:
            raise Refusal("ObjectNotFoundException", "No scalable target found")
        del self.targets[request["ResourceId"]]
        self.policies.pop(request["ResourceId"], None)  # deregistering deletes the policies of a target
        return {}

    def _put_scaling_policy(self, request: Mapping[str, Any]) -> Document:
        if request["ResourceId"] not in self.targets:
            raise Refusal("ObjectNotFoundException", "No scalable target registered")
        self.policies[request["ResourceId"]] = dict(request)
        return {"PolicyARN": f"arn:aws:autoscaling:us-east-1:0:scalingPolicy:{request['PolicyName']}"}

    def _describe_scalable_targets(self, request: Mapping[str, Any]) -> Document:
        return {"ScalableTargets": list(self.targets.values())}
