"""The requests that make a champion's Model and endpoint configuration again, from its document in champion.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from retraining.plan import Plan
from retraining.requests import sagemaker as requests

Request = dict[str, Any]

RECORDED = ("image", "model_data_url")
"""What a Model is made of; documents of early versions lack it."""


def model(plan: Plan, document: Mapping[str, Any]) -> Request:
    """CreateModel, with the name, image and artifact of its promotion; ValueError where the document lacks them."""
    if missing := [key for key in RECORDED if not document.get(key)]:
        raise ValueError(
            f"The document of champion {document['run_name']} lacks {' and '.join(missing)}, so its Model "
            f"{document['model']} cannot be made again"
        )
    own = replace(plan, run_name=document["run_name"])
    return requests.model(own, document["model"], document["image"], document["model_data_url"])


def endpoint_config(plan: Plan, document: Mapping[str, Any]) -> Request:
    """CreateEndpointConfig, under the name of its promotion, with the machines that the recipe asks for today."""
    made = requests.endpoint_config(replace(plan, run_name=document["run_name"]))
    variants = [variant | {"ModelName": document["model"]} for variant in made["ProductionVariants"]]
    return made | {"EndpointConfigName": document["endpoint_config"], "ProductionVariants": variants}
