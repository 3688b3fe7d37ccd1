"""The candidate tried behind its endpoint, made the champion, and what it replaced removed."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import is_missing
from retraining.plan import name_prefix
from retraining.promotion.champion import Champion, own_champion, replace_champion
from retraining.release.golden import MAX_BODY_BYTES, Golden, choose, instances, pack
from retraining.release.package import approve
from retraining.release.served import require_served
from retraining.requests.tasks import require_scored_model
from retraining.run import Run

log = logging.getLogger(__name__)

KEEP_RELEASES = 3


class SmokeTestFailed(ValueError):
    """The endpoint does not answer as the same model did in batch."""


def smoke_test(run: Run) -> dict[str, Any]:
    """The endpoint, asked about images the candidate got right in batch, in every way clients ask."""
    golden = choose(run.fact("compare", key="comparison")["golden"], lambda entry: _image(run, entry))
    shown: dict[str, Any] = {}
    asked = 0
    for image in golden:
        ways = [(image.content_type, image.body)]
        if image.text_bytes <= MAX_BODY_BYTES:
            ways.append(("application/json", json.dumps({"image": image.as_text}).encode()))
        else:
            log.warning("%s has %d bytes, too many for JSON; it is sent as it is.", image.entry, len(image.body))
        for kind, body in ways:
            began = time.perf_counter()
            answer = _ask(run, kind, body)
            latency_ms = 1000 * (time.perf_counter() - began)
            _check_answer(image, kind, answer)
            asked += 1
            first = {"image": image.entry, "expected": image.label, "answer": answer}
            shown = shown or first | {"latency_ms": round(latency_ms, 1)}
    for request in pack(image for image in golden if image.text_bytes <= MAX_BODY_BYTES):
        predictions = _ask(run, "application/json", instances(request))["predictions"]
        log.info("%d golden images together in one request.", len(request))
        for image, answer in zip(request, predictions, strict=True):
            _check_answer(image, "application/json (instances)", answer)
        asked += 1
    return shown | {"requests": asked}


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
        "previous": {k: previous[k] for k in ("run_name", "model", "endpoint_config")} if previous else None,
    }
    replace_champion(run.s3, run.environment.bucket, run.plan.champion_key, before, document)
    run.release_intents.promote()
    return {"run_name": document["run_name"], "previous": (previous or {}).get("run_name")}


def prune(run: Run) -> dict[str, Any]:
    """Remove old models and endpoint configurations of this recipe; never what serves or what a rollback needs.

    Only what carries this deployment's tags: another Airflow of the account may have a recipe of the same name.
    """
    sagemaker, plan = run.sagemaker, run.plan
    champion = own_champion(run.s3, plan).document or {}
    served = sagemaker.describe_endpoint(EndpointName=plan.endpoint)["EndpointConfigName"]
    needed = {plan.run_name, served, champion.get("model"), champion.get("endpoint_config")}
    needed |= set((champion.get("previous") or {}).values())
    served_variants = sagemaker.describe_endpoint_config(EndpointConfigName=served)["ProductionVariants"]
    needed |= {variant["ModelName"] for variant in served_variants}
    removed: dict[str, list[str]] = {}
    for noun, listing, delete in (
        ("EndpointConfig", "list_endpoint_configs", sagemaker.delete_endpoint_config),
        ("Model", "list_models", sagemaker.delete_model),
    ):
        pages = sagemaker.get_paginator(listing).paginate(NameContains=f"{name_prefix(plan.recipe.name)}-")
        arns = {item[f"{noun}Name"]: item[f"{noun}Arn"] for page in pages for item in page[f"{noun}s"]}
        # The names of a recipe's runs sort by time.
        named = sorted((name for name in arns if plan.owns(name)), reverse=True)
        ours = [name for name in named if _is_ours(run, arns[name])]
        removed[noun] = [name for name in ours[KEEP_RELEASES:] if name not in needed]
        for name in removed[noun]:
            log.info("Deleting %s %s.", noun, name)
            _delete(delete, f"{noun}Name", name)
    return removed


def _is_ours(run: Run, arn: str) -> bool:
    """By its tags; what was made before there was a tag for the deployment is left to a person."""
    pages = run.sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
    tags = [tag for page in pages for tag in page["Tags"]]
    return all(tag in tags for tag in run.plan.deployment_tags)


def _image(run: Run, entry: str) -> bytes:
    key = f"{run.plan.images_key}{entry}"
    return bytes(run.s3.get_object(Bucket=run.environment.bucket, Key=key)["Body"].read())


def _ask(run: Run, content_type: str, body: bytes) -> dict[str, Any]:
    answer = run.runtime.invoke_endpoint(
        EndpointName=run.plan.endpoint, ContentType=content_type, Accept="application/json", Body=body
    )
    return dict(json.loads(answer["Body"].read()))


def _check_answer(image: Golden, kind: str, answer: dict[str, Any]) -> None:
    if answer.get("label") != image.label:
        raise SmokeTestFailed(
            f"The endpoint answers {answer.get('label')!r} for {image.entry}, sent as {kind}; in batch the same model "
            f"answered {image.label!r}, which is right. Real-time and batch serving differ."
        )


def _delete(delete: Any, key: str, name: str) -> None:
    try:
        delete(**{key: name})
    except ClientError as error:
        if not is_missing(error.response["Error"]["Code"], error.response["Error"]["Message"]):
            raise
