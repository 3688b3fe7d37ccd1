"""The machines that a recipe may name are those of SageMaker's service model."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from retraining.plan import Plan
from retraining.recipe import RecipeError, read_recipe
from retraining.recipe.instance_types import INSTANCE_TYPES, Kind, transform_type
from tests.contract.test_requests import DIGITS_RECIPE, ENVIRONMENT, every_request, problems, service_model

SHAPES: dict[Kind, str] = {
    "training": "TrainingInstanceType",
    "processing": "ProcessingInstanceType",
    "transform": "TransformInstanceType",
    "hosting": "ProductionVariantInstanceType",
}


@pytest.mark.parametrize("kind", SHAPES)
def test_recipes_know_sagemakers_machines(kind: Kind) -> None:
    assert set(service_model().shape_for(SHAPES[kind]).enum) == INSTANCE_TYPES[kind]


@pytest.mark.parametrize("instance_type", sorted(INSTANCE_TYPES["hosting"]))
def test_every_endpoint_can_be_scored_or_is_refused(instance_type: str) -> None:
    """Which would be found out when search and training are paid for."""
    scoring = None
    if transform_type(instance_type) is None:
        with pytest.raises(RecipeError, match=f"scores the test set, has no {instance_type} and none like it"):
            read_recipe(recipe_on(serving=instance_type), where="test")
        scoring = "ml.m5.large"
    recipe = read_recipe(recipe_on(serving=instance_type, scoring=scoring), where="test")
    requests = every_request(recipe)
    for operation in ("CreateTransformJob", "CreateEndpointConfig", "CreateModelPackage"):
        assert problems(operation, requests[operation]) == []
    offered = requests["CreateModelPackage"]["InferenceSpecification"]
    assert offered["SupportedRealtimeInferenceInstanceTypes"] == [instance_type]
    assert offered["SupportedTransformInstanceTypes"] == [
        requests["CreateTransformJob"]["TransformResources"]["InstanceType"]
    ]


@pytest.mark.parametrize(
    ("serving", "scoring"),
    [
        ("ml.m5.large", "ml.m5.large"),
        ("ml.t2.medium", "ml.m5.large"),
        ("ml.t2.2xlarge", "ml.m5.2xlarge"),
        ("ml.c5.large", "ml.c5.xlarge"),
        ("ml.r5.large", "ml.r6i.large"),
        ("ml.c6in.32xlarge", "ml.c6i.32xlarge"),
        ("ml.g7.12xlarge", "ml.g6e.12xlarge"),
        ("ml.c7g.large", None),
        ("ml.inf1.xlarge", None),
        ("ml.p5.48xlarge", None),
    ],
)
def test_scoring_has_the_nearest_machine(serving: str, scoring: str | None) -> None:
    assert transform_type(serving) == scoring


def test_scoring_follows_the_environments_machine() -> None:
    environment = replace(ENVIRONMENT, serving_instance_type="ml.c5.large")
    plan = Plan.of(DIGITS_RECIPE, environment, datetime(2026, 11, 21, tzinfo=UTC), "r")
    assert plan.scoring_instance_type == "ml.c5.xlarge"


def recipe_on(serving: str, scoring: str | None = None) -> dict[str, Any]:
    return {
        "name": "shapes",
        "source": "bundled://digits",
        "serving": {"instance_type": serving},
        "scoring": {"instance_type": scoring},
        "hyperparameters": {},
        "tuning": {"ranges": {"lr": {"type": "continuous", "min": 0.001, "max": 0.1}}},
    }
