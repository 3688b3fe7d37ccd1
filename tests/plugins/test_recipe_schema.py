"""Editors know of a recipe what the check knows; `python -m retraining lint` tells a person what Airflow would."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from retraining.recipe.hyperparameters import HYPERPARAMETERS
from retraining.recipe.schema import recipe_schema
from tests import shipped
from tests.plugins.test_recipe import put

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return recipe_schema({})


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("path", shipped.RECIPES, ids=lambda path: path.stem)
def test_editors_mark_nothing_in_shipped_recipes(validator: Draft202012Validator, path: Path) -> None:
    assert [error.message for error in validator.iter_errors(yaml.safe_load(path.read_text()))] == []
    assert path.read_text().startswith("# yaml-language-server: $schema=recipe.schema.json\n")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("trainning", {}),
        ("name", "Digits!"),
        ("tuning.max_jobs", 751),
        ("tuning.strategy", "Bayes"),
        ("tuning.ranges.rate", {"type": "integer", "min": 1, "max": 2}),
        ("tuning.ranges.lr.scaling", "Log"),
        ("training.instance_count", 0),
        ("training.instance_type", "m5.xlarge"),
        ("training.spot", "yes"),
        ("hyperparameters.epoch", 3),
        ("hyperparameters.epochs", 0),
        ("hyperparameters.arch", "resnet19"),
        ("hyperparameters.augment", "flip+turn"),
        ("debugger.rules", {"Overfit": "stop"}),
        ("debugger.rules", {"Overfitt": "warn"}),
        ("promotion.confidence", 95),
        ("budget.usd_per_hour", {"ml.m5.xlarge": -1}),
        ("tracking.wandb", {}),
        ("pretrained", "weights.pth"),
    ],
)
def test_editors_mark_what_is_impossible(
    validator: Draft202012Validator, recipe_data: dict[str, Any], path: str, value: object
) -> None:
    assert validator.is_valid(recipe_data)
    data = copy.deepcopy(recipe_data)
    put(path, value)(data)
    assert not validator.is_valid(data)


def test_every_hyperparameter_is_completed(schema: dict[str, Any]) -> None:
    assert set(schema["properties"]["hyperparameters"]["properties"]) == set(HYPERPARAMETERS)


@pytest.mark.parametrize("name", sorted(HYPERPARAMETERS))
def test_schema_and_check_of_a_hyperparameter_agree(name: str) -> None:
    one = HYPERPARAMETERS[name]
    bounds = [one.schema[word] for word in ("minimum", "maximum") if word in one.schema]
    beyond = [value + step for value in bounds if isinstance(value, int | float) for step in (-1, 1, 0.5)]
    values = [*bounds, *beyond, *one.schema.get("enum", []), True, "none", "flip+crop", "flip+", "", None, 1.5]
    validator = Draft202012Validator(one.schema)
    for value in values:
        taken = value is not None and one.accepts(value)
        assert validator.is_valid(value) == taken or isinstance(value, float), (name, value)


def lint(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "retraining", "lint", *map(str, arguments)]
    settings = os.environ | {"PYTHONPATH": str(ROOT / "plugins")} | environment
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)


def test_lint_tells_all_and_fails(tmp_path: Path, recipe_data: dict[str, Any]) -> None:
    good, bad, twin = (tmp_path / name for name in ("good.yaml", "bad.yaml", "twin.yaml"))
    good.write_text(json.dumps(recipe_data))
    twin.write_text(json.dumps(recipe_data))
    bad.write_text(json.dumps(recipe_data | {"name": "Bad!", "approval": "no"}))
    done = lint(good, bad, twin)
    assert (done.returncode, done.stdout) == (1, f"{good}: good\n")
    first, second, third = done.stderr.splitlines()
    assert first.startswith(f"{bad}: name = 'Bad!': must be 1 to 40")
    assert second == "  also approval = 'no': must be true or false."
    assert third == f"{twin}: name = 'shapes': is also the name of {good}. Give each recipe its own name."


def test_lint_reads_what_airflow_reads(tmp_path: Path, recipe_data: dict[str, Any]) -> None:
    (tmp_path / "mine.yaml").write_text(json.dumps(recipe_data))
    done = lint(RETRAINING_RECIPES=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'mine.yaml'}: good" in done.stdout.splitlines()
    assert all(f"{path}: good" in done.stdout for path in shipped.RECIPES)
