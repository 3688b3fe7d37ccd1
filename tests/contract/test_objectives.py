"""What each shipped recipe is searched by: the metric is printed, found by its expression, and goes the right way."""

from __future__ import annotations

import re
from types import ModuleType
from typing import get_args, get_type_hints

import pytest

from local_sagemaker.jobs.metrics import MetricPatterns, final_metrics
from local_sagemaker.sandbox.patterns import PatternProcesses
from retraining.recipe import Recipe, load_recipe
from retraining.recipe.hyperparameters import HYPERPARAMETERS
from retraining.recipe.tuning import Tuning
from retraining.requests.sagemaker import METRIC_DEFINITIONS
from tests import shipped
from tests.contract.test_metric_lines import metrics

__all__ = ["metrics"]  # the fixture: ml/training/metrics.py by its path

RECIPES = [load_recipe(path) for path in shipped.RECIPES]

each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def test_recipes_and_training_script_know_the_same_objectives(metrics: ModuleType) -> None:
    known = get_args(get_type_hints(Tuning)["objective"])
    assert set(known) == set(metrics.OBJECTIVES)
    assert all(HYPERPARAMETERS["objective"].accepts(name) for name in known)
    assert not HYPERPARAMETERS["objective"].accepts("test:loss")


@each_recipe
def test_the_objective_goes_the_way_in_which_epochs_get_better(recipe: Recipe, metrics: ModuleType) -> None:
    assert metrics.OBJECTIVES[recipe.tuning.objective] == (1 if recipe.tuning.goal == "Maximize" else -1)


@each_recipe
def test_the_best_epoch_is_the_value_a_trial_of_the_recipe_is_ranked_by(recipe: Recipe, metrics: ModuleType) -> None:
    """A training whose last epoch is its worst, in the lines of the script and the expressions of the request."""
    names = (*metrics.NAMES, *metrics.BINARY_NAMES) if recipe.hyperparameters.get("head") == "binary" else metrics.NAMES
    objective, sign = recipe.tuning.objective, metrics.OBJECTIVES[recipe.tuning.objective]
    epochs = [
        dict.fromkeys(names, 0.5) | {objective: 0.5 + sign * gain} for gain in (0.125, 0.25, -0.375)
    ]  # exact as float32
    best = epochs[1]
    lines = [metrics.epoch_line(number, 3, values, 99.0) for number, values in enumerate(epochs, start=1)]
    series: dict[str, list[list[float]]] = {}
    with PatternProcesses() as processes:
        patterns = MetricPatterns(processes, METRIC_DEFINITIONS)
        for moment, name, value in patterns.find([*lines, metrics.best_line(2, 3, best)]):
            series.setdefault(name, []).append([moment, value])
    assert len(series[objective]) == 4
    assert {item["MetricName"]: item["Value"] for item in final_metrics(series)}[objective] == best[objective]


@each_recipe
def test_no_objective_is_a_measurement_on_test_images(recipe: Recipe) -> None:
    assert recipe.tuning.objective.startswith("validation:")


def test_f1_is_searched_only_where_there_are_two_classes() -> None:
    for recipe in RECIPES:
        if recipe.tuning.objective == "validation:f1":
            assert recipe.hyperparameters["head"] == "binary"


@pytest.mark.parametrize("text", ["nan", "0.9876", "1e-05", "2.5E+03", "12"])
def test_every_number_a_line_can_hold_is_found_or_is_none(text: str) -> None:
    """SageMaker drops what is no number: a loss of nan must not become a metric."""
    for definition in METRIC_DEFINITIONS:
        found = re.search(definition["Regex"], f"epoch=1/2 {definition['Name']}={text} images_per_second=3.0")
        assert (found is None) if text == "nan" else (found is not None and float(found[1]) == float(text))
