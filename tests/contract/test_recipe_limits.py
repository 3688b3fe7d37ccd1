"""Whatever recipe is accepted, SageMaker accepts the requests that are made of it."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from local_sagemaker.wire.service_model import check_request
from retraining.container_images import resolve_images
from retraining.debugger.mode import in_mode
from retraining.plan import Plan
from retraining.recipe import Recipe, RecipeError, read_recipe
from retraining.recipe.debugger import ALL_RULES
from retraining.recipe.schema import recipe_schema
from retraining.requests import verification as verification_requests
from retraining.requests.autoscaling import scaling
from tests.contract.test_requests import ENVIRONMENT, every_request

SCHEMA = recipe_schema({})
LENGTHS = (0, 1, 63, 64, 128, 250, 255, 256, 257, 512, 513, 1024, 1025, 2500, 2501)
TEXTS = (*("a" * length for length in LENGTHS), "a\nb", "a\u2028b", "\u00e9" * 256, "a b", "$", "\U0001f600")
SMALL: dict[str, Any] = {
    "name": "shapes",
    "source": "s3://images/shapes",
    "hyperparameters": {"arch": "resnet18"},
    "tuning": {"ranges": {"lr": {"type": "continuous", "min": 0.001, "max": 0.1}}},
}
#: Values of keys that a schema tells little of; the extremes of all others are in it.
MADE: dict[str, list[Any]] = {
    "name": ["a" * 40, "a", "1-b"],
    "source": ["bundled://digits", "s3://images/x"],
    "endpoint": ["a" * 63, "A-b"],
    "pretrained": [None, *(f"s3://b/{text}.pth" for text in TEXTS)],
    "serving.instance_type": ["ml.t2.medium", "ml.c5.large", "ml.g5.xlarge", "ml.c7g.large", "ml.m5.larg"],
    "scoring.instance_type": [None, "ml.g5.xlarge", "ml.t2.medium"],
    "training.instance_type": ["ml.m5.large", "ml.p5.48xlarge", "ml.c6i.large"],
    "debugger.instance_type": ["ml.t3.medium", "ml.t2.medium"],
    "sync.instance_type": ["ml.c5.xlarge", "ml.c5.large"],
    "hyperparameters.weights": ["imagenet", "channel"],
    "debugger.rules": [{}, {rule: "warn" for rule in ALL_RULES if rule not in ("LossSpike", "AllZero")}],
    "debugger.rule_parameters": [
        {"LossNotDecreasing": {name: value}}
        for name in ("tensor_regex", "collection_names")
        for value in (*TEXTS, "a|" * 128, "loss")
    ],
    "debugger.stop_training": [["LossNotDecreasing"]],
    "debugger.collections": [
        *({f"c{n}": {"include_regex": "a"} for n in range(count)} for count in (1, 17, 18, 25)),
        *({"c": {"include_regex": "a", key: "1"}} for key in TEXTS),
        *({"c": {"include_regex": text}} for text in TEXTS),
        *({"c": {"include_regex": "a"} | {f"p{n}": 1 for n in range(count)}} for count in (18, 19, 30)),
        *({text: {"include_regex": "a"}} for text in TEXTS),
    ],
    "deployment.alarms": [[text] for text in TEXTS] + [[f"a{n}" for n in range(count)] for count in (10, 11)],
    "tracking": [
        {"mlflow": {"tracking_uri": f"https://{text}", "experiment": other}} for text in TEXTS for other in TEXTS[:7]
    ],
    "tuning.ranges": [
        {"dropout": {"type": "categorical", "values": [n / 100 for n in range(count)]}} for count in (1, 30, 31)
    ]
    + [{"lr": {"type": "continuous", "min": 1e-08, "max": 10}, "epochs": {"type": "integer", "min": 1, "max": 1000}}],
    "serving.autoscaling": [{"min": 1, "max": 100, "invocations_per_instance": most} for most in (1, 10**6)],
    "deployment.shadow": [None, {"requests": 1}],
}  # fmt: skip


def extremes(section: dict[str, Any], above: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Each key below a section of the schema, with its bounds, its choices, or texts of many lengths."""
    for key, field in section["properties"].items():
        path = f"{above}{key}"
        parts = [field, *field.get("anyOf", ())]
        inside = [SCHEMA["$defs"][part["$ref"].rpartition("/")[2]] for part in parts if "$ref" in part]
        if path in MADE:
            yield path, MADE[path]
        elif inside or "properties" in field:
            yield from extremes(inside[0] if inside else field, f"{path}.")
        elif values := [value for part in parts for value in _values(part)]:
            yield path, values


def _values(part: dict[str, Any]) -> list[Any]:
    if "enum" in part:
        return list(part["enum"])
    if part.get("type") in ("integer", "number"):
        least = part.get("minimum", part.get("exclusiveMinimum", 0) + 1)
        number = int if part["type"] == "integer" else float
        return [number(least), number(part.get("maximum", 2**31 - 1)), number(min(part.get("maximum", 10), 10))]
    return {"boolean": [True, False], "string": list(TEXTS)}.get(part.get("type", ""), [])


KEYS = dict(extremes(SCHEMA))


def put(data: dict[str, Any], path: str, value: Any) -> None:
    *sections, key = path.split(".")
    for section in sections:
        data[section] = data.get(section) or {}
        data = data[section]
    data[key] = value


def made(changes: dict[str, Any]) -> Recipe | None:
    data = copy.deepcopy(SMALL)
    if changes.get("pretrained"):
        changes = changes | {"hyperparameters.weights": "channel"}
    for path, value in changes.items():
        put(data, path, copy.deepcopy(value))
    try:
        return read_recipe(data, where="test")
    except RecipeError:
        return None


def require_accepted(recipe: Recipe) -> None:
    """ApiError where SageMaker would refuse a request, in whichever mode the training is then watched."""
    own = recipe.debugger.mode
    modes: Any = ("self_hosted", "managed") if own == "auto" else (own,)
    for mode in modes:
        if mode == "managed" and recipe.debugger_obstacle:
            continue
        decided = in_mode(recipe, mode)
        for operation, request in every_request(decided).items():
            check_request("sagemaker", operation, request)
        plan = Plan.of(decided, ENVIRONMENT, datetime(2026, 11, 21, 3, tzinfo=UTC), "r")
        images = resolve_images(decided, ENVIRONMENT)
        check_request("sagemaker", "CreateProcessingJob", verification_requests.verification_job(plan, images, None))
        for operation, request in (scaling(plan) or {}).items():
            check_request("application-autoscaling", operation, request)


@pytest.mark.parametrize("path", KEYS)
def test_what_a_recipe_may_say_sagemaker_takes(path: str) -> None:
    recipes = [recipe for value in KEYS[path] if (recipe := made({path: value})) is not None]
    for recipe in recipes:
        require_accepted(recipe)


@pytest.mark.parametrize("seed", range(8))
def test_many_keys_together_sagemaker_takes(seed: int) -> None:
    rng, accepted = random.Random(seed), 0
    for _ in range(150):
        paths = rng.sample(sorted(KEYS), rng.randint(2, 5))
        if recipe := made({path: rng.choice(KEYS[path]) for path in paths}):
            require_accepted(recipe)
            accepted += 1
    assert accepted > 10


def test_a_long_search_is_asked_for_half_a_year_at_most() -> None:
    slow = {"training.max_runtime_seconds": 172_800, "tuning.max_jobs": 100, "tuning.max_parallel_jobs": 1}
    recipe = made(slow)
    assert recipe is not None
    require_accepted(recipe)
