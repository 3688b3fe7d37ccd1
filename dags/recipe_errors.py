"""Recipes that cannot become a DAG, as one import error in Airflow's list.

Airflow ties an import error to a file and retires every DAG of that file. So the DAGs are made in
retrain_classifier.py, which passes over bad recipes, and the complaint comes from here, where no DAG can be hurt.
"""

from __future__ import annotations

import os
from pathlib import Path

from retraining.environment import recipe_folders
from retraining.recipe import check_recipes, find_recipes

errors = check_recipes(find_recipes(recipe_folders(os.environ, Path(__file__).parent)))

if errors:
    raise ValueError("These recipes cannot become a DAG:\n" + "\n".join(errors.values()))
