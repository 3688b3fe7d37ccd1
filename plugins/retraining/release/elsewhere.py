"""What the account's other endpoints serve: nothing that one of them needs is deleted.

An endpoint carries no tag of ours, and may have been made by a person, or under a name that the recipe had before. So
all are asked: one ListEndpoints for a hundred, and two Describe requests for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import DENIED
from retraining.release.endpoint import describe_endpoint, pending_config
from retraining.release.resources import models_of


@dataclass(frozen=True, kw_only=True)
class Other:
    """An endpoint that is not the recipe's."""

    name: str
    configs: frozenset[str]
    """The endpoint configurations that it serves, or is changed to."""
    models: frozenset[str]
    """Theirs, as far as the configurations are still there."""


def other_endpoints(sagemaker: Any, besides: str, since: datetime | None = None) -> list[Other]:
    """All but the one named; ClientError where they may not be listed. One that may not be described is passed over.

    `since`: those that were made or changed after that, as all are that serve what was made then.
    """
    changed = {"LastModifiedTimeAfter": since} if since else {}
    pages = sagemaker.get_paginator("list_endpoints").paginate(**changed)
    names = [str(endpoint["EndpointName"]) for page in pages for endpoint in page["Endpoints"]]
    found = (_look(sagemaker, name) for name in names if name != besides)
    return [other for other in found if other is not None]


def _look(sagemaker: Any, name: str) -> Other | None:
    try:
        endpoint = describe_endpoint(sagemaker, name)
        if endpoint is None:
            return None
        both = (endpoint.get("EndpointConfigName"), pending_config(endpoint))
        configs = frozenset(str(config) for config in both if config)
        models = frozenset(model for config in configs for model in models_of(sagemaker, config) or ())
    except ClientError as error:
        if error.response["Error"]["Code"] not in DENIED:
            raise
        return None
    return Other(name=name, configs=configs, models=models)
