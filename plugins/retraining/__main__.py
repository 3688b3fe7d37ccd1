"""What a person asks of a recipe before Airflow sees it.

    python -m retraining lint [FILE…]

reads recipes as the DAG does and tells everything that is wrong with them; without files those that Airflow would
read. Exit status 1 if one is refused.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from retraining.environment import recipe_folders
from retraining.recipe import check_recipes, find_recipes

DAGS = Path(__file__).parents[2] / "dags"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m retraining", description="Checks of recipes, without Airflow.")
    commands = parser.add_subparsers(dest="command", required=True)
    lint = commands.add_parser("lint", help="tell everything that is wrong with recipes")
    lint.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: what Airflow would read")
    files: list[Path] = parser.parse_args(arguments).files or find_recipes(recipe_folders(os.environ, DAGS))
    refused = check_recipes(files)
    for path in files:
        if path not in refused:
            print(f"{path}: good")
    for complaint in refused.values():
        print(complaint, file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
