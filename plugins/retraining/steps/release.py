"""The candidate tried behind its endpoint, made the champion, and what it replaced removed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from retraining.creation import delete_once
from retraining.job_kinds import DENIED, is_missing
from retraining.plan import name_prefix
from retraining.promotion.approval import person
from retraining.promotion.champion import Champion, names_of, own_champion, replace_champion
from retraining.promotion.history import keep
from retraining.release.elsewhere import Other, other_endpoints
from retraining.release.golden import choose, read_image
from retraining.release.package import approve
from retraining.release.served import require_served
from retraining.release.tags import is_ours
from retraining.release.trial import try_endpoint
from retraining.report import elsewhere_said
from retraining.run import Run
from retraining.steps.task_requests import require_scored_model

log = logging.getLogger(__name__)

KEEP_RELEASES = 3


def smoke_test(run: Run) -> dict[str, Any]:
    """The endpoint, asked about images the candidate got right in batch, in every way clients ask."""
    read = partial(read_image, run.s3, run.environment.bucket, run.plan.images_key)
    golden = choose(run.fact("compare", key="comparison")["golden"], read)
    return try_endpoint(run.runtime, run.plan.endpoint, golden)


def update_champion(run: Run) -> dict[str, Any]:
    """From here on this run is what serves. Compare-and-swap: two runs cannot both believe that.

    The package is approved first: a run that dies in between is rolled back, and its package rejected.
    """
    require_served(run)
    require_scored_model(run)
    approve(run.sagemaker, run.fact("register")["arn"], f"Run {run.plan.run_name} passed its smoke test.")
    known = run.fact("needs_retraining", key="champion")
    before = Champion(document=known["document"], etag=known["etag"])
    comparison, previous = run.fact("compare", key="comparison"), before.document
    document = {
        "format": 1,
        "recipe": run.recipe.name,
        "run_name": run.plan.run_name,
        "run_after": run.context["dag_run"].run_after.isoformat(),
        "ingredients": run.ingredients.as_dict(),
        "classes": run.fact("sync_dataset")["classes"],
        "metrics": comparison["candidate"],
        "tuning_job": run.fact("tune")["name"],
        "training_job": run.fact("train")["name"],
        "model": run.plan.model,
        "model_data_url": run.model_data_url,
        "artifact": comparison.get("artifact"),
        "image": run.images.serving,
        "model_package_arn": run.fact("register")["arn"],
        "endpoint": run.plan.endpoint,
        "endpoint_config": run.plan.endpoint_config,
        "reason": comparison["decision"]["reason"],
        "approved_by": person(run.find("approve")),
        "golden": comparison.get("golden"),
        "previous": names_of(previous),
    }
    # Before the pointer: whatever serves can serve again. The one before may be of a version that kept none.
    for champion in (previous, document):
        keep(run.s3, run.plan, champion)
    replace_champion(run.s3, run.environment.bucket, run.plan.champion_key, before, document)
    run.release_intents.promote()
    return {"run_name": document["run_name"], "previous": (previous or {}).get("run_name")}


def prune(run: Run) -> dict[str, Any]:
    """Remove old models and endpoint configurations of this recipe; never what serves or what a rollback needs.

    What serves behind another endpoint counts too: one of a name that the recipe had before, or a person's. Where they
    may not be listed, nothing is removed. Those that serve something of ours are told of, for they are paid.
    Only what carries this deployment's tags: another Airflow of the account may have a recipe of the same name.
    """
    sagemaker, plan = run.sagemaker, run.plan
    try:
        others = other_endpoints(sagemaker, plan.endpoint)
    except ClientError as error:
        if error.response["Error"]["Code"] not in DENIED:
            raise
        log.warning("Nothing is removed, for another endpoint may serve it; allow sagemaker:ListEndpoints: %s", error)
        return {"EndpointConfig": [], "Model": []}
    champion = own_champion(run.s3, plan).document or {}
    served = sagemaker.describe_endpoint(EndpointName=plan.endpoint)["EndpointConfigName"]
    needed = {plan.run_name, served, champion.get("model"), champion.get("endpoint_config")}
    needed |= set((champion.get("previous") or {}).values())
    served_variants = sagemaker.describe_endpoint_config(EndpointConfigName=served)["ProductionVariants"]
    needed |= {variant["ModelName"] for variant in served_variants}
    needed = needed.union(*(other.configs | other.models for other in others))
    _tell_of(run, others)
    removed: dict[str, list[str]] = {}
    for noun, listing, delete in (
        ("EndpointConfig", "list_endpoint_configs", sagemaker.delete_endpoint_config),
        ("Model", "list_models", sagemaker.delete_model),
    ):
        pages = sagemaker.get_paginator(listing).paginate(NameContains=f"{name_prefix(plan.recipe.name)}-")
        arns = {item[f"{noun}Name"]: item[f"{noun}Arn"] for page in pages for item in page[f"{noun}s"]}
        # The names of a recipe's runs sort by time.
        named = sorted((name for name in arns if plan.owns(name)), reverse=True)
        ours = [name for name in named if is_ours(sagemaker, plan, arns[name])]
        removed[noun] = [name for name in ours[KEEP_RELEASES:] if name not in needed]
        for name in removed[noun]:
            log.info("Deleting %s %s.", noun, name)
            delete_once(delete, {f"{noun}Name": name})
    return removed


def _tell_of(run: Run, others: Sequence[Other]) -> None:
    """In the log, and for the report: endpoints of another name that serve what this deployment made."""
    elsewhere = [
        {"endpoint": other.name, "config": config}
        for other in others
        for config in sorted(other.configs)
        if run.plan.owns(config) and (arn := _arn_of(run, config)) and is_ours(run.sagemaker, run.plan, arn)
    ]
    for found in elsewhere:
        log.warning("%s", elsewhere_said(found))
    run.push("elsewhere", elsewhere)


def _arn_of(run: Run, config: str) -> str | None:
    try:
        return str(run.sagemaker.describe_endpoint_config(EndpointConfigName=config)["EndpointConfigArn"])
    except ClientError as error:
        if is_missing(error):
            return None
        raise
