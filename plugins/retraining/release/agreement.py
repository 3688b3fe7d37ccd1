"""Does the endpoint serve the champion that champion.json names?

A candidate is compared with the model that is named, and replaces the one that serves: where these are two, something
would be replaced that it was never compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from botocore.exceptions import ClientError

from retraining.identity import IDENTITIES
from retraining.job_kinds import is_missing
from retraining.release.endpoint import pending_config
from retraining.release.resources import models_of


def disagreement(sagemaker: Any, champion: Mapping[str, Any], endpoint: Mapping[str, Any] | None) -> str:
    """What an endpoint serves, or is about to, where that is not the champion; else empty, also where none serves.

    `endpoint` is DescribeEndpoint's answer. An endpoint configuration of another name is the champion's too, as long as
    its Model is made of just what the champion's is: somebody chose other machines.
    """
    if endpoint is None or endpoint["EndpointStatus"] == "Deleting":
        return ""
    name, status, served = (endpoint[key] for key in ("EndpointName", "EndpointStatus", "EndpointConfigName"))
    right = _is_champions(sagemaker, champion, served)
    pending = pending_config(endpoint)
    if pending and not (right and _is_champions(sagemaker, champion, pending)):
        return f"endpoint {name} is {status}, from {served} to {pending}"
    if right:
        return ""
    return f"endpoint {name} serves {served} since {endpoint['LastModifiedTime'].astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _is_champions(sagemaker: Any, champion: Mapping[str, Any], config: str) -> bool:
    models = models_of(sagemaker, config)
    if models is None:
        return bool(config == champion["endpoint_config"])
    return all(model == champion["model"] or _made_of(sagemaker, model) == _recorded(champion) for model in models)


def _recorded(champion: Mapping[str, Any]) -> dict[str, Any]:
    return {"artifact": champion.get("model_data_url"), "image": champion.get("image")}


def _made_of(sagemaker: Any, model: str) -> dict[str, Any] | None:
    """A Model's artifact and image; None where it was deleted, or tells no artifact."""
    try:
        found = dict(IDENTITIES["model"](sagemaker.describe_model(ModelName=model)))
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    return found if found["artifact"] else None
