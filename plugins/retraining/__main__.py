"""What a person asks of this package without Airflow.

python -m retraining lint [FILE…]     tell everything that is wrong with recipes; without files those Airflow reads
python -m retraining init FOLDER      write the DAG files, and a first recipe, into a DAGs folder
python -m retraining source           where ml/ lies, the code that SageMaker runs
python -m retraining policy airflow|role|trust
                                      the IAM policy that Airflow, or the execution role, needs, as JSON
python -m retraining champions NAME   which models of a recipe were champion, and which one its endpoint serves
python -m retraining rollback NAME --reason TEXT [--to RUN] [--dry-run]
                                      let the champion before, or another one, serve again
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import shutil
import sys
from pathlib import Path

from retraining import policy
from retraining.environment import ConfigurationError, Environment, dags_folder, recipe_folders, shipped
from retraining.recipe import RecipeError, check_recipes, find_recipes, load_recipe
from retraining.telling import tell


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m retraining", description="Recipes and files, without Airflow.")
    commands = parser.add_subparsers(dest="command", required=True)
    lint = commands.add_parser("lint", help="tell everything that is wrong with recipes; exit status 1 if anything is")
    lint.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: what Airflow would read")
    init = commands.add_parser("init", help="write the DAG files, and a first recipe, into a DAGs folder")
    init.add_argument("folder", type=Path, help="Airflow's dags_folder")
    commands.add_parser("source", help="where ml/ lies, the code that SageMaker runs")
    policies = commands.add_parser("policy", help="the IAM policy that Airflow, or the execution role, needs, as JSON")
    policies.add_argument("of", choices=["airflow", "role", "trust"], help="trust: who may take the execution role")
    champions = commands.add_parser("champions", help="which models were champion, and which one the endpoint serves")
    rollback = commands.add_parser("rollback", help="let the champion before, or another one, serve again")
    champion = commands.add_parser("champion", help="find a lost champion.json again, by the endpoint and the registry")
    drill = commands.add_parser("drill", help="a rollback to try it: there and back, and how long each took")
    for command in (champions, rollback, drill, champion):
        command.add_argument("name", metavar="NAME", help="of the recipe")
    for command in (rollback, drill):
        command.add_argument("--to", default="", metavar="RUN", help="default: the champion before this one")
        command.add_argument(
            "--reason", required=True, help="recorded with the champion and, of a rollback, the registry"
        )
        command.add_argument("--by", default=None, metavar="PERSON", help="default: your user name")
        command.add_argument("--dry-run", action="store_true", help="only look whether it could be done")
    champion.add_argument("--rebuild", action="store_true", required=True, help="tell what would be written, and why")
    champion.add_argument("--yes", action="store_true", help="and write it")
    options = parser.parse_args(arguments)
    if options.command == "lint":
        return _lint(options.files or find_recipes(recipe_folders(os.environ, dags_folder(os.environ))))
    if options.command in ("champions", "champion", "drill", "rollback"):
        from retraining import terminal  # boto3, which `lint` does without

        folder = dags_folder(os.environ)
        if options.command == "champions":
            return terminal.list_champions(options.name, folder)
        if options.command == "champion":
            return terminal.rebuild_champion(options.name, getpass.getuser(), folder, write=options.yes)
        by = options.by or getpass.getuser()
        if options.command == "drill":
            return terminal.drill(options.name, options.to, options.reason, by, folder, dry_run=options.dry_run)
        return terminal.roll_back(options.name, options.to, options.reason, by, folder, dry_run=options.dry_run)
    if options.command == "policy":
        return _policy(options.of)
    if options.command == "init":
        _init(options.folder)
    else:
        print(shipped("ml"))
    return 0


def _lint(files: list[Path]) -> int:
    refused = check_recipes(files)
    for path in files:
        if path not in refused:
            tell(f"{path}: good")
    for complaint in refused.values():
        tell(complaint, error=True)
    if not files:
        tell("there is no recipe", error=True)
    return 1 if refused else 0


def _policy(of: str) -> int:
    """Of the environment's bucket, role and account, and of what the recipes there read from S3."""
    try:
        environment = Environment.of(os.environ)
    except ConfigurationError as error:
        tell(f"python -m retraining: {error}", error=True)
        return 1
    sources = set[str]()
    for path in find_recipes(recipe_folders(os.environ, dags_folder(os.environ))):
        try:
            recipe = load_recipe(path)
        except RecipeError as error:
            tell(f"{error}\nWhat it reads from is not in the policy.", error=True)
            continue
        sources |= {address for address in (recipe.source, recipe.pretrained or "") if address.startswith("s3://")}
    make = {"airflow": policy.of_airflow, "role": policy.of_role, "trust": lambda *_: policy.trust()}
    print(json.dumps(make[of](environment, sources), indent=1))
    return 0


def _init(folder: Path) -> None:
    """The DAG files are this package's and follow it; recipes are their owner's and stay as they are."""
    (folder / "recipes").mkdir(parents=True, exist_ok=True)
    for path in sorted(shipped("dags").glob("*.py")):
        shutil.copyfile(path, folder / path.name)
        tell(folder / path.name)
    for name in ("recipe.schema.json", "digits.yaml"):
        target = folder / "recipes" / name
        if name.endswith(".json") or not target.exists():
            shutil.copyfile(shipped("dags") / "recipes" / name, target)
            tell(target)


if __name__ == "__main__":
    sys.exit(main())
