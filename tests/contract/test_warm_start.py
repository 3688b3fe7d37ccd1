"""A search that begins from earlier ones: what the plugin chooses, the API's model and the local server accept."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from local_sagemaker.tuning import warm_start as server
from local_sagemaker.tuning.plan import Plan as ServerPlan
from local_sagemaker.wire.errors import ApiError
from retraining.container_images import resolve_images
from retraining.plan import Plan
from retraining.recipe import Recipe
from retraining.requests import sagemaker as requests
from retraining.tuning import warm_start
from tests.contract.test_requests import DIGITS_RECIPE, ENVIRONMENT, LONG_RECIPE, problems

WEEKS = [datetime(2026, 11, day, 3, tzinfo=UTC) for day in (2, 9, 16, 23, 30)]
HYPERPARAMETERS, RANGES = DIGITS_RECIPE.hyperparameters, DIGITS_RECIPE.tuning.ranges


def search(recipe: Recipe, week: int, decided: dict[str, Any] | None = None, **of: str) -> dict[str, Any]:
    plan = Plan.of(recipe, ENVIRONMENT, WEEKS[week], f"scheduled__{week}")
    source = plan.uri(plan.source_key(of.get("code", "c0")))
    return requests.tuning_job(plan, resolve_images(recipe, ENVIRONMENT), of.get("data", "d0"), source, decided)


def ended(request: dict[str, Any]) -> dict[str, Any]:
    counters = {"TrainingJobStatusCounters": {"Completed": 4}, "ObjectiveStatusCounters": {"Succeeded": 4}}
    return copy.deepcopy(request) | counters | {"HyperParameterTuningJobStatus": "Completed"}


def tuned(**ranges: Any) -> Recipe:
    return replace(DIGITS_RECIPE, tuning=replace(DIGITS_RECIPE.tuning, ranges=ranges))


@pytest.mark.parametrize("strategy", ["Bayesian", "Random"])
@pytest.mark.parametrize("decided", [warm_start.MAX_PARENTS, 1])
def test_sagemaker_would_accept_the_request(strategy: Any, decided: int) -> None:
    recipe = replace(LONG_RECIPE, tuning=replace(LONG_RECIPE.tuning, strategy=strategy))
    earlier = [ended(search(recipe, 0)) | {"HyperParameterTuningJobName": f"p{n}"} for n in range(decided)]
    chosen = warm_start.choose(search(recipe, 1), earlier)
    request = search(recipe, 1, chosen.as_dict())
    assert len(request["WarmStartConfig"]["ParentHyperParameterTuningJobs"]) == decided
    assert problems("CreateHyperParameterTuningJob", request) == []


@pytest.mark.parametrize(
    ("before", "of"),
    [
        (DIGITS_RECIPE, {}),
        (DIGITS_RECIPE, {"data": "d1"}),
        (DIGITS_RECIPE, {"code": "c1", "data": "d1"}),
        (replace(DIGITS_RECIPE, hyperparameters=HYPERPARAMETERS | {"epochs": 2, "seed": 1}), {}),
        (tuned(lr=replace(RANGES["lr"], max=0.5), **{"batch-size": RANGES["batch-size"]}), {}),
        (replace(DIGITS_RECIPE, training=replace(DIGITS_RECIPE.training, spot=True, volume_size_gb=9)), {}),
    ],
    ids=["nothing", "data", "data and code", "fixed values", "range", "machine"],
)
def test_the_local_server_accepts_what_is_chosen(before: Recipe, of: dict[str, str]) -> None:
    parent = ended(search(before, 0, **of))
    decided = warm_start.choose(search(DIGITS_RECIPE, 1), [parent])
    request = search(DIGITS_RECIPE, 1, decided.as_dict())
    assert server.parents(request) == [parent["HyperParameterTuningJobName"]]
    server.check(request, ServerPlan.of(request), server.parents(request)[0], parent, "Completed")


@pytest.mark.parametrize(
    "before",
    [
        replace(DIGITS_RECIPE, hyperparameters={k: v for k, v in HYPERPARAMETERS.items() if k != "seed"}),
        replace(DIGITS_RECIPE, tuning=replace(DIGITS_RECIPE.tuning, objective="validation:macro_f1")),
        tuned(lr=replace(RANGES["batch-size"], values=(0.001, 0.002)), **{"batch-size": RANGES["batch-size"]}),
        replace(DIGITS_RECIPE, tracking=LONG_RECIPE.tracking),
    ],
    ids=["names", "objective", "type", "environment"],
)
def test_what_the_local_server_refuses_is_not_chosen(before: Recipe) -> None:
    parent = ended(search(before, 0))
    assert warm_start.choose(search(DIGITS_RECIPE, 1), [parent]).parents == ()
    name = parent["HyperParameterTuningJobName"]
    asked = search(DIGITS_RECIPE, 1, {"type": "TransferLearning", "parents": [name]})
    with pytest.raises(ApiError):
        server.check(asked, ServerPlan.of(asked), name, parent, "Completed")
