"""A champion.json that was lost or cannot be read, found again: what the endpoint serves, if the registry approved it.

The document that was kept at the promotion is taken whole; without one, what the registry and the run's evaluation
tell. Where endpoint and registry disagree there is no telling which is right, and a person has to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from retraining.job_kinds import is_missing
from retraining.plan import Plan
from retraining.promotion.champion import (
    Champion,
    ChampionMoved,
    ChampionUnusable,
    names_of,
    own_champion,
    replace_champion,
    unusable,
)
from retraining.promotion.history import keep, past_champions, recall
from retraining.release.artifact import ArtifactChanged, require_champions
from retraining.release.endpoint import describe_endpoint
from retraining.release.package import approved_packages, artifact_of
from retraining.s3.documents import read_document

SHOWN = 5


class NothingLost(ValueError):
    """champion.json is as it should be."""


class CannotRebuild(ValueError):
    """What was found tells no champion, or two; the message says what, and the way out."""


@dataclass(frozen=True, kw_only=True)
class Found:
    lost: Champion
    """The pointer as it lies there now: only that one is replaced."""
    document: dict[str, Any]
    told: tuple[str, ...]
    """Where everything is from, a line each."""


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """Of the pointer of one recipe. `plan` gives its addresses; its run name is not used."""

    s3: Any
    sagemaker: Any
    plan: Plan

    def find(self) -> Found:
        """Changes nothing. NothingLost where there is no need, CannotRebuild where it cannot be told."""
        endpoint = self._endpoint()
        lost, why = self._lost(endpoint["EndpointConfigName"])
        model = self._served_model(endpoint["EndpointConfigName"])
        package = self._package(model, endpoint["EndpointConfigName"])
        run_name = str(package.get("CustomerMetadataProperties", {}).get("run_name") or model["ModelName"])
        names = {"run_name": run_name, "model": model["ModelName"], "endpoint_config": endpoint["EndpointConfigName"]}
        known = recall(self.s3, self.plan, run_name)
        kept = known is not None and names_of(known) == names
        document = dict(known or {}) if kept else names | self._from_registry(package, model)
        self._require_usable(document)
        told = (
            f"{self.plan.uri(self.plan.champion_key)} {why}",
            f"endpoint {self.plan.endpoint} serves {names['endpoint_config']}, made of {_artifact(model)}",
            f"model package {package['ModelPackageArn']} of run {run_name} is Approved, and made of just that",
            f"all else is from {self.plan.uri(self.plan.past_champion_key(run_name))}, kept at its promotion"
            if kept
            else "all else is from the registry and the run's evaluation; golden images are not known from there",
        )
        return Found(lost=lost, document=document, told=told)

    def write(self, found: Found, by: str) -> None:
        """By compare-and-swap; CannotRebuild where somebody was faster."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        document = found.document | {"rebuilt": {"by": by, "at": at, "from": list(found.told)}}
        keep(self.s3, self.plan, found.document)
        try:
            replace_champion(self.s3, self.plan.environment.bucket, self.plan.champion_key, found.lost, document)
        except ChampionMoved as error:
            raise CannotRebuild(str(error)) from error

    # -- what is there -------------------------------------------------------------------------------------------------

    def _endpoint(self) -> dict[str, Any]:
        name = self.plan.endpoint
        endpoint = describe_endpoint(self.sagemaker, name)
        if endpoint is None:
            raise CannotRebuild(
                f"Endpoint {name} does not exist, so no champion serves. `rollback --to RUN` makes it again; known "
                f"champions are: {self._known()}."
            )
        if endpoint["EndpointStatus"] != "InService" or endpoint.get("PendingDeploymentSummary"):
            raise CannotRebuild(
                f"Endpoint {name} is {endpoint['EndpointStatus']}, so what it is going to serve is not certain. Wait "
                "until it is InService; one that is Failed has to be deleted."
            )
        return endpoint

    def _lost(self, served: str) -> tuple[Champion, str]:
        """The pointer as it is, and what is wrong with it."""
        try:
            champion = own_champion(self.s3, self.plan)
        except ChampionUnusable as error:
            _, problem = str(error).split(" ", 1)
            return Champion(document=None, etag=error.etag), problem
        if champion.document is None:
            return champion, "does not exist"
        names = champion.document["run_name"]
        if champion.document["endpoint_config"] == served:
            raise NothingLost(f"{self.plan.uri(self.plan.champion_key)} names {names}, which the endpoint serves.")
        raise CannotRebuild(
            f"{self.plan.uri(self.plan.champion_key)} can be read, and names {names}, while the endpoint serves "
            f"{served}. `rollback --to {names}` puts the endpoint on it; with --to and another run, that one is the "
            f"champion. Known are: {self._known()}."
        )

    def _served_model(self, config: str) -> dict[str, Any]:
        variants = self.sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
        if len(variants) != 1:
            names = ", ".join(variant["VariantName"] for variant in variants)
            raise CannotRebuild(f"{config} has the variants {names}; a champion is one model.")
        name = variants[0]["ModelName"]
        try:
            return dict(self.sagemaker.describe_model(ModelName=name))
        except ClientError as error:
            if not is_missing(error):
                raise
            raise CannotRebuild(
                f"Model {name}, which the endpoint serves, was deleted: what it is made of is lost."
            ) from None

    def _package(self, model: Mapping[str, Any], config: str) -> dict[str, Any]:
        """The newest Approved package of this deployment that is made of what serves."""
        approved = list(approved_packages(self.sagemaker, self.plan))
        for package in approved:
            if artifact_of(package) == _artifact(model):
                return package
        found = ", ".join(f"{package['ModelPackageArn']} ({artifact_of(package)})" for package in approved[:SHOWN])
        raise CannotRebuild(
            f"The endpoint serves {config}, made of {_artifact(model)}, and no Approved package of the group "
            f"{self.plan.model_package_group} is made of that. Approved are: {found or 'none'}. Approve its package if "
            f"it is to be the champion, or name another by `rollback --to RUN`; known are: {self._known()}."
        )

    # -- what it becomes -----------------------------------------------------------------------------------------------

    def _from_registry(self, package: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
        facts = package.get("CustomerMetadataProperties", {})
        evaluation = self._evaluation(package)
        scores = evaluation["candidate"]
        return {
            "format": 1,
            "recipe": self.plan.recipe.name,
            "ingredients": {name: facts.get(name) for name in ("dataset", "code", "recipe")},
            "classes": scores["classes"],
            "metrics": {key: scores.get(key) for key in ("accuracy", "macro_f1", "log_loss", "n")},
            "tuning_job": facts.get("tuning_job"),
            "training_job": package.get("MetadataProperties", {}).get("GeneratedBy", "").rpartition("/")[2] or None,
            "model_data_url": _artifact(model),
            "artifact": evaluation.get("artifact"),
            "image": model["PrimaryContainer"].get("Image"),
            "model_package_arn": package["ModelPackageArn"],
            "endpoint": self.plan.endpoint,
            "reason": evaluation["decision"]["reason"],
            "approved_by": facts.get("approved_by"),
            "golden": None,
            "previous": None,
        }

    def _evaluation(self, package: Mapping[str, Any]) -> dict[str, Any]:
        quality = package.get("ModelMetrics", {}).get("ModelQuality", {})
        uri = str(quality.get("Statistics", {}).get("S3Uri", ""))
        address = urlsplit(uri)
        text, _ = read_document(self.s3, address.netloc, address.path.lstrip("/")) if uri else (None, None)
        try:
            found = dict(json.loads(text or b"null"))
            if found["candidate"]["classes"] and found["decision"]["reason"]:
                return found
        except (LookupError, TypeError, ValueError):
            pass
        raise CannotRebuild(
            f"Model package {package['ModelPackageArn']} names the evaluation {uri or 'nothing'}, which cannot be "
            "read, and no document was kept at its promotion: the model's classes are not known. Put one of them back."
        )

    def _require_usable(self, document: Mapping[str, Any]) -> None:
        if problem := unusable(document, self.plan):
            raise CannotRebuild(f"What was found of run {document['run_name']} {problem}.")
        try:
            require_champions(self.s3, document)
        except ArtifactChanged as error:
            raise CannotRebuild(str(error)) from error

    def _known(self) -> str:
        return ", ".join(past["run_name"] for past in past_champions(self.s3, self.plan)) or "none"


def _artifact(model: Mapping[str, Any]) -> str:
    return str(model.get("PrimaryContainer", {}).get("ModelDataUrl"))
