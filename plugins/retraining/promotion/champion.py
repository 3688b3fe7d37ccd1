"""champion.json: which run serves and what it was made from. Changed by compare-and-swap, after the smoke test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retraining.plan import Plan
from retraining.s3.documents import read_document, write_document

# What a run reads of the champion that serves.
NEEDED = ("run_name", "classes", "model", "endpoint_config", "ingredients")


class ChampionMoved(RuntimeError):
    """Somebody else promoted a model while this run was under way."""


class ChampionUnusable(ValueError):
    """There is a champion.json, and it is not one that this deployment wrote about its own model."""

    def __init__(self, message: str, etag: str | None) -> None:
        super().__init__(message)
        self.etag = etag


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The pointer as it was read. `etag` is what it must still be when it is replaced. None before the first run."""

    document: dict[str, Any] | None
    etag: str | None


def read_champion(s3: Any, bucket: str, key: str) -> Champion:
    """The pointer as it stands; ChampionUnusable when it cannot be read as one."""
    text, etag = read_document(s3, bucket, key)
    if text is None:
        return Champion(document=None, etag=None)
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ChampionUnusable(f"s3://{bucket}/{key} is not valid JSON ({error})", etag) from None
    if not isinstance(document, dict):
        raise ChampionUnusable(f"s3://{bucket}/{key} holds no JSON object", etag)
    return Champion(document=document, etag=etag)


def own_champion(s3: Any, plan: Plan) -> Champion:
    """The champion of the plan's recipe in this deployment; ChampionUnusable when the pointer is about another one.

    A pointer that was copied from another bucket, account or region names a model that cannot be scored here.
    """
    champion = read_champion(s3, plan.environment.bucket, plan.champion_key)
    if champion.document is not None and (problem := unusable(champion.document, plan)):
        raise ChampionUnusable(f"{plan.uri(plan.champion_key)} {problem}", champion.etag)
    return champion


def unusable(document: Any, plan: Plan) -> str:
    """Why a document is not about a model of this recipe in this deployment; empty when it is."""
    if not isinstance(document, dict):
        return "holds no JSON object"
    if missing := [key for key in NEEDED if not document.get(key)]:
        return f"lacks {', '.join(missing)}"
    if (recipe := document.get("recipe", plan.recipe.name)) != plan.recipe.name:
        return f"is about recipe {recipe!r}, not {plan.recipe.name!r}"
    artifact = str(document.get("model_data_url", ""))
    if artifact and not artifact.startswith(plan.uri("")):
        return f"names a model outside this deployment's bucket: {artifact}"
    measured = document.get("artifact")
    if measured and not (isinstance(measured, dict) and measured.keys() >= {"uri", "sha256", "size_bytes"}):
        return f"says of its artifact {measured!r}, not its uri, sha256 and size_bytes"
    # arn:aws:sagemaker:REGION:ACCOUNT:model-package/…
    package = str(document.get("model_package_arn", "")).split(":")
    home = (plan.environment.region, plan.environment.account)
    if len(package) > 5 and tuple(package[3:5]) != home:
        return f"names a model package of account {package[4]} in {package[3]}; this is {home[1]} in {home[0]}"
    return ""


def names_of(document: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How the next champion names the one before it; None when there was none."""
    return {key: document[key] for key in ("run_name", "model", "endpoint_config")} if document else None


def unfinished_drill(document: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The champion that a drill, which is under way or was killed, has to come back to."""
    return ((document or {}).get("drill") or {}).get("back_to")


def replace_champion(s3: Any, bucket: str, key: str, before: Champion, document: dict[str, Any]) -> None:
    """Make `document` the champion, unless the pointer is no longer what it was.

    Repeating it with the same document is harmless: a retry after a lost answer finds its own work and is content.
    """
    if not write_document(s3, bucket, key, document, before.etag):
        now = read_champion(s3, bucket, key)
        if now.document != document:
            serving = (now.document or {}).get("run_name")
            raise ChampionMoved(
                f"s3://{bucket}/{key} was changed by run {serving} while this run was under way; it is left as it is."
            )
