"""A recipe: one YAML file that says how one classifier is retrained, and every rule about it.

recipe                                         all of it, and what its sections have to do with each other
layout, split, sync, machines, tuning, debugger, promotion, deployment, capture, tracking, budget   the sections
hyperparameters, schedule                      what ml/train.py takes; cron lines
rules, refusal                                 bounds and patterns of fields; RecipeError
file, reading                                  YAML → plain data → frozen dataclasses
schema                                         the same rules for editors, as JSON Schema
trigger_form                                   the same fields as Airflow's Params
"""

from retraining.recipe.promotion import Promotion
from retraining.recipe.recipe import (
    TRIGGER_PARAMS,
    Recipe,
    check_recipes,
    find_recipes,
    load_recipe,
    read_layout,
    read_recipe,
)
from retraining.recipe.refusal import RecipeError
from retraining.recipe.split import Split

__all__ = [
    "TRIGGER_PARAMS",
    "Promotion",
    "Recipe",
    "RecipeError",
    "Split",
    "check_recipes",
    "find_recipes",
    "load_recipe",
    "read_layout",
    "read_recipe",
]
