"""The champion that a run compares with: named by champion.json, served by the endpoint, and there to be scored.

All that speaks against it is found here, before anything is paid for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from retraining.identity import NameTaken
from retraining.job_kinds import KINDS, is_missing
from retraining.promotion.champion import Champion, ChampionUnusable, own_champion, unfinished_drill
from retraining.promotion.history import past_champions
from retraining.release.agreement import disagreement
from retraining.release.artifact import ArtifactChanged, require_champions
from retraining.release.endpoint import describe_endpoint
from retraining.release.first import UncomparedPromotion, signs_of_a_champion
from retraining.release.lifetime import Lifetime
from retraining.release.resources import have_model
from retraining.release.tags import foreign_bucket
from retraining.requests import champion as champion_requests
from retraining.run import Run

log = logging.getLogger(__name__)

SHOWN = 5
"""Former champions that a refusal names."""
FIRST_PROMOTION = "trigger the DAG with first_promotion, and the floors of the recipe alone decide"


class DrillUnderWay(ValueError):
    """The champion of the moment is a former one, which serves only to see that it could."""


class EndpointForeign(ValueError):
    """Another deployment of the account serves its models with it."""


class EndpointBroken(ValueError):
    """SageMaker can neither serve with the endpoint nor update it."""


class ModelLost(ValueError):
    """The champion's Model was removed or replaced, and cannot be made again."""


class NothingServes(ValueError):
    """There is a champion, and no endpoint: nobody has meant that, and nothing that this run does will change it."""


def find_champion(run: Run, endpoint: Mapping[str, Any] | None) -> tuple[Champion, list[str]]:
    """The champion, and what was found that speaks against there being none, or against its being what serves.

    `endpoint` is DescribeEndpoint's answer about the recipe's. UncomparedPromotion where something was found, unless a
    first promotion is meant; DrillUnderWay, EndpointForeign and EndpointBroken whatever is meant.
    """
    _require_usable(endpoint)
    _require_own(run, endpoint)
    found: list[str] = []
    try:
        champion = own_champion(run.s3, run.plan)
        _require_no_drill(run, champion.document)
        require_champions(run.s3, champion.document)
    except ChampionUnusable as error:
        champion, found = Champion(document=None, etag=error.etag), [str(error)]
    except ArtifactChanged as error:
        champion, found = Champion(document=None, etag=champion.etag), [str(error)]
    if champion.document is not None:
        if not (sign := _disagreement(run, champion.document, endpoint)):
            return champion, []
        names, found = champion.document["run_name"], [sign]
        champion = Champion(document=None, etag=champion.etag)
        refusal = (
            f"{run.plan.uri(run.plan.champion_key)} names {names}, but {sign}: a candidate would be compared with the "
            f"one and replace the other. {_ways_out(run, names)}"
        )
    else:
        found += signs_of_a_champion(run.sagemaker, run.plan)
        refusal = (
            f"There is no champion by {run.plan.uri(run.plan.champion_key)}, so a candidate would serve without being "
            f"compared with anything. But {'; '.join(found)}. A pointer that was lost is found again by `python -m "
            f"retraining champion {run.recipe.name} --rebuild`; an artifact has to be put back. If it is meant, "
            f"{FIRST_PROMOTION}."
        )
    if found and not run.params.get("first_promotion"):
        raise UncomparedPromotion(refusal)
    for sign in found:
        log.warning("A first promotion was asked for, although %s.", sign)
    return champion, found


def have_champions_model(run: Run, champion: Mapping[str, Any] | None) -> None:
    """What the champion is scored with, and what else may have been removed since it was promoted.

    ModelLost where it cannot be made again, and where another Model has its name: found now, it costs nothing.
    """
    if champion is None:
        return
    name = champion["model"]
    try:
        have_model(run.sagemaker, champion_requests.model(run.plan, champion), log.warning)
        return
    except NameTaken as error:
        problem = str(error)
    except ValueError as error:  # a document of an early version
        if _exists(run, name):
            return
        problem = f"{error}."
    raise ModelLost(
        f"Champion {champion['run_name']} cannot be scored by its Model {name}. {problem} Nothing was trained. Make it "
        f"again, or let another champion serve: python -m retraining rollback {run.recipe.name} --to RUN --reason …"
    )


def _exists(run: Run, model: str) -> bool:
    try:
        run.sagemaker.describe_model(ModelName=model)
    except ClientError as error:
        if not is_missing(error):
            raise
        return False
    return True


def nothing_serves(
    run: Run, champion: Mapping[str, Any] | None, endpoint: Mapping[str, Any] | None
) -> tuple[str, bool]:
    """That no endpoint serves the champion, with the way to have one; empty where one does. And whether it is meant."""
    if champion is None or (endpoint and endpoint["EndpointStatus"] != "Deleting"):
        return "", False
    name, former = run.plan.endpoint, str(champion.get("endpoint") or run.plan.endpoint)
    deleted = Lifetime(s3=run.s3, plan=run.plan).deleted
    if former != name:
        ends = f"aws sagemaker delete-endpoint --endpoint-name {former}"
        there = describe_endpoint(run.sagemaker, former)
        found = f"serves still and is paid, until `{ends}`" if there else "does not exist either"
        why = f"the recipe named its endpoint {former} before, which {found}"
    elif deleted:
        why = f"the janitor deleted it at {deleted}, because nobody used it (serving.ttl_hours)"
    else:
        why = "it does not exist"
    back = f"python -m retraining rollback {run.recipe.name} --to {champion['run_name']} --reason …"
    return (
        f"nothing serves behind endpoint {name}: {why}. `{back}` makes it without a training, the next promotion too",
        bool(deleted),
    )


def _require_usable(endpoint: Mapping[str, Any] | None) -> None:
    if endpoint and endpoint["EndpointStatus"] != "InService" and not KINDS["endpoint"].in_progress(endpoint):
        name, why = endpoint["EndpointName"], endpoint.get("FailureReason", "no reason given")
        raise EndpointBroken(
            f"Endpoint {name} is {endpoint['EndpointStatus']}: {why} SageMaker cannot update it, so nothing is trained "
            f"for it. Delete it and run again: aws sagemaker delete-endpoint --endpoint-name {name}"
        )


def _require_own(run: Run, endpoint: Mapping[str, Any] | None) -> None:
    if endpoint and (foreign := foreign_bucket(run.sagemaker, run.plan, endpoint)):
        name, (bucket, arn), own = endpoint["EndpointName"], foreign, run.environment.bucket
        raise EndpointForeign(
            f"Endpoint {name} serves {endpoint['EndpointConfigName']} of another deployment, whose bucket is {bucket}; "
            f"this one's is {own}. Its model is not replaced: give the recipe an endpoint of its own, for example "
            f"`endpoint: {name}-2`. If {bucket} is this deployment's former bucket, say so: aws sagemaker add-tags "
            f"--resource-arn {arn} --tags Key=retraining:bucket,Value={own}"
        )


def _require_no_drill(run: Run, champion: Mapping[str, Any] | None) -> None:
    if champion is not None and (home := unfinished_drill(champion)):
        name = run.recipe.name
        raise DrillUnderWay(
            f"A drill is under way, or was killed: {champion['run_name']} serves until it comes back to the champion "
            f"{home.get('run_name')}, with which a candidate has to be compared. Wait for it, or let the same drill "
            f"end it: `python -m retraining drill {name} --reason …`, or the DAG rollback_{name} with drill. Then "
            "trigger a new run."
        )


def _disagreement(run: Run, champion: Mapping[str, Any], endpoint: Mapping[str, Any] | None) -> str:
    """Where the recipe's endpoint got another name, and is not there yet, the former one serves."""
    former = champion.get("endpoint")
    if endpoint is None and former and former != run.plan.endpoint:
        endpoint = describe_endpoint(run.sagemaker, str(former))
    return disagreement(run.sagemaker, champion, endpoint)


def _ways_out(run: Run, named: str) -> str:
    known = ", ".join(past["run_name"] for past in past_champions(run.s3, run.plan)[:SHOWN]) or named
    return (
        "Where it is being changed, wait until it is InService, and trigger a new run. Else let one model be both: "
        f"`python -m retraining rollback {run.recipe.name} --to RUN --reason …` lets the champion of RUN serve and "
        f"names it, {named} or another one of {known}. If what serves is to be replaced without a comparison, "
        f"{FIRST_PROMOTION}."
    )
