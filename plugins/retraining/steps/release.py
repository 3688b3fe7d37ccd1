"""The candidate tried behind its endpoint, made the champion, and what it replaced removed."""

from __future__ import annotations

import base64
import json
import logging
import time
from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import is_missing
from retraining.plan import name_prefix
from retraining.promotion.champion import Champion, read_champion, replace_champion
from retraining.run import Run

log = logging.getLogger(__name__)

KEEP_RELEASES = 3


class SmokeTestFailed(ValueError):
    """The endpoint does not answer as the same model did in batch."""


def smoke_test(run: Run) -> dict[str, Any]:
    """The endpoint, asked about images the candidate got right in batch, in every way clients ask."""
    golden = run.fact("compare", key="comparison")["golden"]
    bodies = {entry: _image(run, entry) for entry in golden}
    shown: dict[str, Any] = {}
    for entry, label in golden.items():
        content_type = "image/png" if entry.endswith(".png") else "image/jpeg"
        as_text = json.dumps({"image": base64.b64encode(bodies[entry]).decode()}).encode()
        for kind, body in ((content_type, bodies[entry]), ("application/json", as_text)):
            began = time.perf_counter()
            answer = _ask(run, kind, body)
            latency_ms = 1000 * (time.perf_counter() - began)
            _check_answer(entry, label, kind, answer)
            shown = shown or {"image": entry, "expected": label, "answer": answer, "latency_ms": round(latency_ms, 1)}
    together = {"instances": [base64.b64encode(body).decode() for body in bodies.values()]}
    predictions = _ask(run, "application/json", json.dumps(together).encode())["predictions"]
    for (entry, label), answer in zip(golden.items(), predictions, strict=True):
        _check_answer(entry, label, "application/json (instances)", answer)
    return shown | {"requests": 2 * len(golden) + 1}


def update_champion(run: Run) -> dict[str, Any]:
    """From here on this run is what serves. Compare-and-swap: two runs cannot both believe that."""
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
        "image": run.images.serving,
        "model_package_arn": run.fact("register")["arn"],
        "endpoint": run.plan.endpoint,
        "endpoint_config": run.plan.endpoint_config,
        "previous": {k: previous[k] for k in ("run_name", "model", "endpoint_config")} if previous else None,
    }
    replace_champion(run.s3, run.environment.bucket, run.plan.champion_key, before, document)
    return {"run_name": document["run_name"], "previous": (previous or {}).get("run_name")}


def prune(run: Run) -> dict[str, Any]:
    """Remove old models and endpoint configurations of this recipe; never what serves or what a rollback needs."""
    sagemaker, plan = run.sagemaker, run.plan
    champion = read_champion(run.s3, run.environment.bucket, plan.champion_key).document or {}
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
        names = {item[f"{noun}Name"] for page in pages for item in page[f"{noun}s"]}
        # The names of a recipe's runs sort by time.
        old = sorted((name for name in names if plan.owns(name)), reverse=True)[KEEP_RELEASES:]
        removed[noun] = [name for name in old if name not in needed]
        for name in removed[noun]:
            log.info("Deleting %s %s.", noun, name)
            _delete(delete, f"{noun}Name", name)
    return removed


def _image(run: Run, entry: str) -> bytes:
    key = f"{run.plan.images_key}{entry}"
    return bytes(run.s3.get_object(Bucket=run.environment.bucket, Key=key)["Body"].read())


def _ask(run: Run, content_type: str, body: bytes) -> dict[str, Any]:
    answer = run.runtime.invoke_endpoint(
        EndpointName=run.plan.endpoint, ContentType=content_type, Accept="application/json", Body=body
    )
    return dict(json.loads(answer["Body"].read()))


def _check_answer(entry: str, label: str, kind: str, answer: dict[str, Any]) -> None:
    if answer.get("label") != label:
        raise SmokeTestFailed(
            f"The endpoint answers {answer.get('label')!r} for {entry}, sent as {kind}; in batch the same model "
            f"answered {label!r}, which is right. Real-time and batch serving differ."
        )


def _delete(delete: Any, key: str, name: str) -> None:
    try:
        delete(**{key: name})
    except ClientError as error:
        if not is_missing(error.response["Error"]["Code"], error.response["Error"]["Message"]):
            raise
