"""What a person asks at a terminal about the champions of one recipe, with the AWS credentials of their shell."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from retraining.environment import ConfigurationError, Environment, recipe_folders
from retraining.plan import Plan
from retraining.promotion.champion import ChampionUnusable, own_champion
from retraining.promotion.history import past_champions
from retraining.recipe import Recipe, RecipeError, find_recipes, load_recipe
from retraining.release.drill import Drill
from retraining.release.endpoint import describe_endpoint
from retraining.release.rebuild import CannotRebuild, NothingLost, Rebuild
from retraining.release.rollback import NoWayBack, Rollback
from retraining.release.scaling import SERVICE
from retraining.release.serving import RollbackFailed
from retraining.s3.connections import keeping_many
from retraining.s3.encryption import encrypting
from retraining.telling import tell

REFUSALS = (
    BotoCoreError,
    CannotRebuild,
    ChampionUnusable,
    ClientError,
    ConfigurationError,
    LookupError,
    NoWayBack,
    RecipeError,
    RollbackFailed,
)


def roll_back(name: str, to: str, reason: str, by: str, dags_folder: Path, *, dry_run: bool) -> int:
    """The exit status: 0 when the endpoint serves what it is to, or when it could (`dry_run`)."""
    try:
        rollback = _rollback(name, reason, dags_folder)
        plan = rollback.plan
        if dry_run:
            tell(f"{name} can go back to {rollback.choose(to)}; nothing was changed.")
            return 0
        done = rollback.go_back(to, reason=reason, by=by)
    except REFUSALS as error:
        tell(f"error: {error}", error=True)
        return 1
    tell(
        f"{plan.endpoint} serves {done['run_name']} after {done['update_seconds']} s, checked and recorded after "
        f"{done['seconds']} s."
    )
    return 0


def drill(name: str, to: str, reason: str, by: str, dags_folder: Path, *, dry_run: bool) -> int:
    """The exit status: 0 when the champion serves again after another one did, or when that could be (`dry_run`)."""
    try:
        performed = Drill(rollback=_rollback(name, reason, dags_folder))
        target = performed.choose(to)
        if dry_run:
            tell(f"{name} can go back to {target} and return; nothing was changed.")
            return 0
        done = performed.perform(target, reason=reason, by=by)
    except REFUSALS as error:
        tell(f"error: {error}", error=True)
        return 1
    tell(
        f"{done['drilled']} served after {done['away_seconds']} s, and the champion {done['run_name']} again after "
        f"another {done['back_seconds']} s; each checked and recorded."
    )
    return 0


def list_champions(name: str, dags_folder: Path) -> int:
    """A line for each model that was champion, the newest first; * marks what the endpoint serves."""
    try:
        plan = plan_of(name, dags_folder)
        s3 = client_of(plan, "s3")
        known = past_champions(s3, plan)
        now = own_champion(s3, plan).document
        endpoint = describe_endpoint(client_of(plan, "sagemaker"), plan.endpoint) or {}
    except REFUSALS as error:
        tell(f"error: {error}", error=True)
        return 1
    if now:  # the pointer tells more than what was kept at the promotion
        known = sorted(
            [now, *(past for past in known if past["run_name"] != now["run_name"])],
            key=lambda document: str(document["run_name"]),
            reverse=True,
        )
    for document in known:
        tell(_line(document, (now or {}).get("run_name"), endpoint.get("EndpointConfigName")))
    if not known:
        tell(f"{name} has had no champion.")
    if now and endpoint.get("EndpointConfigName") != now["endpoint_config"]:
        found = endpoint.get("EndpointConfigName", "does not exist")
        tell(
            f"endpoint {plan.endpoint}: {found}, and not {now['endpoint_config']}, the champion's; to have it serve: "
            f"python -m retraining rollback {name} --to {now['run_name']} --reason …",
            error=True,
        )
        return 1
    return 0


def rebuild_champion(name: str, by: str, dags_folder: Path, *, write: bool) -> int:
    """The exit status: 0 when champion.json names what serves, or could be written so."""
    try:
        plan = plan_of(name, dags_folder)
        rebuild = Rebuild(s3=client_of(plan, "s3"), sagemaker=client_of(plan, "sagemaker"), plan=plan)
        found = rebuild.find()
        tell(*found.told)
        if write:
            rebuild.write(found, by)
    except NothingLost as nothing:
        tell(f"{nothing} There is nothing to rebuild.")
        return 0
    except REFUSALS as error:
        tell(f"error: {error}", error=True)
        return 1
    names = f"{plan.uri(plan.champion_key)} {{}} {found.document['run_name']}"
    tell(
        f"{names.format('names')}." if write else f"{names.format('would name')}; nothing was written. --yes writes it."
    )
    return 0


def _line(document: Mapping[str, Any], champion: str | None, served: str | None) -> str:
    marks = ("*" if document["endpoint_config"] == served else " ", document["run_name"])
    scores = document.get("metrics") or {}
    told = [f"{name} {scores[name]:.4f}" for name in ("accuracy", "macro_f1") if isinstance(scores.get(name), float)]
    if document["run_name"] == champion:
        told.append("champion")
    if back := document.get("rolled_back"):
        why = f"; rolled back to by {back['by']}: {back['reason']}"
    else:
        why = f"; promoted: {document['reason']}" if document.get("reason") else ""
    if (last := document.get("drill")) and "back_seconds" in last:
        why += f"; drill to {last['run_name']} at {last['at']}: {last['away_seconds']} s, {last['back_seconds']} s back"
    return f"{' '.join(marks)}  {', '.join(told)}{why}"


def _rollback(name: str, reason: str, dags_folder: Path) -> Rollback:
    if not reason.strip():
        raise NoWayBack("A rollback needs a reason: it is recorded with the champion and in the registry")
    plan = plan_of(name, dags_folder)
    return Rollback(plan=plan, say=tell, **clients_of(plan))


def plan_of(name: str, dags_folder: Path) -> Plan:
    environment = Environment.of(os.environ)
    for path in find_recipes(recipe_folders(os.environ, dags_folder), name):
        try:
            recipe: Recipe = load_recipe(path)
        except RecipeError:
            if path.stem == name:
                raise
            continue
        if recipe.name == name:
            return Plan(recipe=recipe, environment=environment, run_name="")
    raise LookupError(f"there is no recipe {name!r} in {', '.join(map(str, recipe_folders(os.environ, dags_folder)))}")


def clients_of(plan: Plan) -> dict[str, Any]:
    names = {"s3": "s3", "sagemaker": "sagemaker", "runtime": "sagemaker-runtime", "scaling": SERVICE}
    return {key: client_of(plan, service) for key, service in names.items()}


def client_of(plan: Plan, service: str) -> Any:
    made = boto3.client(service, region_name=plan.environment.region, config=keeping_many())
    return encrypting(made, plan.environment.account_rules) if service == "s3" else made
