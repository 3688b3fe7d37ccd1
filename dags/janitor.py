"""One DAG over all recipes that give their endpoint a time to live: it looks every hour, tells first, and deletes then.

There is none as long as no recipe says `serving.ttl_hours`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, get_parsing_context

from retraining import steps
from retraining.environment import recipe_folders
from retraining.recipe import Recipe, RecipeError, find_recipes, load_recipe
from retraining.retries import RETRIES
from retraining.run import Run

NAME = "retraining_janitor"
DOC = """
Deletes endpoints that nobody uses: those of recipes with `serving.ttl_hours` that serve their champion and had neither
a request nor a successful run for so long. A day before, the endpoint's task here **fails once** and says so; a
request, or a run of its recipe, keeps it. Its champion serves again by `rollback_<recipe>`, or with the next promotion.
"""


def janitor(recipes: list[Recipe]) -> DAG:
    with DAG(
        dag_id=NAME,
        description="Deletes endpoints that nobody uses, a day after telling of it",
        doc_md=DOC,
        schedule="@hourly",
        catchup=False,
        max_active_runs=1,
        default_args=RETRIES,
        tags=["retraining", "sagemaker"],
    ) as dag:
        for recipe in recipes:
            look_after(recipe)
    return dag


def look_after(recipe: Recipe) -> PythonOperator:
    def look(**context: Any) -> dict[str, str]:
        return steps.look_after(Run(recipe, context))

    return PythonOperator(task_id=recipe.name, python_callable=look)


def make_dag() -> None:
    if (get_parsing_context().dag_id or NAME) != NAME:
        return
    recipes: dict[str, Recipe] = {}
    for path in find_recipes(recipe_folders(os.environ, Path(__file__).parent)):
        try:
            recipe = load_recipe(path)
        except RecipeError:
            continue  # as in retrain_classifier.py
        if recipe.serving.ttl_hours is not None:
            recipes.setdefault(recipe.name, recipe)
    if recipes:
        globals()[NAME] = janitor([recipes[name] for name in sorted(recipes)])


make_dag()
