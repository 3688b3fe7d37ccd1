"""What each recipe serves now, by SageMaker's word, beside the champion that it should serve, and who was champion."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from retraining.environment import Environment
from retraining.page.documents import Shelf, TooLarge, champion_key, lifetime_key
from retraining.page.figures import number
from retraining.page.kept import Kept
from retraining.release.endpoint import describe_endpoint, pending_config

log = logging.getLogger(__name__)

MOST = 24
"""Recipes on the page; the others are links."""
SHOWN = 10
"""Former champions of each."""
SECONDS = 10.0
"""For all of them together: what has not answered by then is told to be so."""
LOUDNESS = ("bad", "warned", "good", "dim")
RUN_NAME = re.compile(r"[a-z0-9-]{1,40}")

_threads = ThreadPoolExecutor(8, thread_name_prefix="retraining-models")
# What a run was promoted with never changes.
_past: Kept[dict[str, Any] | None] = Kept(most=1000, seconds=86400)


@dataclass(frozen=True, kw_only=True)
class Model:
    """One recipe, as far as S3 and SageMaker tell."""

    recipe: str
    champion: Mapping[str, Any] | None = None
    past: Sequence[Mapping[str, Any]] = ()
    """Champions, the newest run first, each with `registry`, `serves` and the `line` that goes back to it."""
    endpoint: Mapping[str, Any] | None = None
    deleted: str = ""
    """When the janitor deleted the endpoint, where it did."""
    problems: Sequence[str] = ()
    """What could not be asked, in words."""

    @property
    def word(self) -> tuple[str, str]:
        """(good, dim, warned or bad; what to know first)."""
        return judge(self.champion, self.endpoint, asked=not self.problems, deleted=self.deleted)


def read_models(recipes: Sequence[str], read: Callable[[str], Model], seconds: float = SECONDS) -> list[Model]:
    """`read` of each, at the same time, in their order. One that takes longer is left alone, and told to be late."""
    asked = [_threads.submit(read, recipe) for recipe in recipes]
    done, _ = wait(asked, timeout=seconds)
    late = f"no answer within {seconds:g} s"
    for future in asked:
        future.cancel()  # what has not begun
    return [
        _result(future, recipe) if future in done else Model(recipe=recipe, problems=(late,))
        for recipe, future in zip(recipes, asked, strict=True)
    ]


def _result(future: Future[Model], recipe: str) -> Model:
    try:
        return future.result()
    except (AttributeError, LookupError, TypeError, ValueError):
        log.exception("What recipe %s left cannot be read.", recipe)
        return Model(recipe=recipe, problems=("its champions are not written as this version writes them",))


def loudest_first(models: Sequence[Model]) -> list[Model]:
    """What is wrong, what is not known or changes, what serves, and what has never served."""
    return sorted(models, key=lambda model: (LOUDNESS.index(model.word[0]), model.recipe))


def read_model(shelf: Shelf, sagemaker: Any, recipe: str, way_back: Callable[[str, str], str]) -> Model:
    """One recipe. What one service refuses to tell leaves what the others do.

    `way_back` tells the line that a person types to go back, of a recipe and a run.
    """
    problems: list[str] = []

    def ask(service: str, question: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return question()
        except (BotoCoreError, ClientError, TooLarge) as error:
            problems.append(f"{service} does not tell {_said(error)}")
            return otherwise

    champion = ask("S3", lambda: shelf.json(champion_key(recipe)), None)
    champion = champion if champion and champion.get("run_name") else None
    past = ask("S3", lambda: _past_champions(shelf, recipe), [])
    name = str((champion or {}).get("endpoint") or "")
    endpoint = ask("SageMaker", lambda: describe_endpoint(sagemaker, name), None) if name else None
    lifetime = ask("S3", lambda: shelf.optional(lifetime_key(recipe)), None) if name and endpoint is None else None
    states = ask("SageMaker", lambda: _registry(sagemaker, recipe), {}) if champion or past else {}
    return Model(
        recipe=recipe,
        champion=champion,
        past=[
            _row(partial(way_back, recipe), document, champion, endpoint, states)
            for document in _merged(champion, past)
        ],
        endpoint=endpoint and told(endpoint),
        deleted=str((lifetime or {}).get("deleted") or ""),
        problems=tuple(dict.fromkeys(problems)),
    )


def judge(
    champion: Mapping[str, Any] | None,
    endpoint: Mapping[str, Any] | None,
    *,
    asked: bool = True,
    deleted: str = "",
) -> tuple[str, str]:
    """How loud, and what. Pure. `asked`: whether every question was answered; `deleted`: when the janitor did it."""
    if not champion:
        return ("dim", "No champion yet.") if asked else ("warned", "It is not known who is the champion.")
    if not endpoint and deleted:
        return (
            "warned",
            f"Nobody used endpoint {champion.get('endpoint')}: it was deleted at {deleted}, nothing serves.",
        )
    if not endpoint:
        text = f"Endpoint {champion.get('endpoint')} does not exist: nothing serves."
        return ("bad", text) if asked else ("warned", "It is not known what serves.")
    wanted, serves, status = champion.get("endpoint_config"), endpoint["config"], endpoint["status"]
    if endpoint["pending"]:
        return "warned", f"It serves {serves}, and is changed to {endpoint['pending']}."
    if status not in ("InService", "Updating", "SystemUpdating"):
        return "bad", f"The endpoint is {status}{': ' + endpoint['failure'] if endpoint['failure'] else ''}."
    if serves != wanted:
        return "bad", f"It serves {serves}, and not the champion's {wanted}."
    return "good", "It serves the champion."


def _said(error: Exception) -> str:
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    return f"({code})"


def _past_champions(shelf: Shelf, recipe: str) -> list[dict[str, Any]]:
    """The newest of them. Names of a recipe's runs sort by time; one listing has a thousand, which are 19 years."""
    prefix = f"{recipe}/champions/"
    listed = shelf.s3.list_objects_v2(Bucket=shelf.bucket, Prefix=prefix, MaxKeys=1000).get("Contents", ())
    keys = sorted((entry["Key"] for entry in listed if entry["Key"].endswith(".json")), reverse=True)[:SHOWN]
    found = [_past.get((shelf.bucket, key), lambda key=key: shelf.optional(key)) for key in keys]  # type: ignore[misc]
    return [document for document in found if document and document.get("run_name")]


def _merged(champion: Mapping[str, Any] | None, past: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The pointer tells more of its run than what was kept at the promotion."""
    others = [document for document in past if not champion or document["run_name"] != champion["run_name"]]
    found = [*([champion] if champion else []), *others]
    return sorted(found, key=lambda document: str(document["run_name"]), reverse=True)


def _registry(sagemaker: Any, recipe: str) -> dict[str, str]:
    """Of the newest hundred model packages: ARN → Approved, Rejected or PendingManualApproval."""
    try:
        answer = sagemaker.list_model_packages(
            ModelPackageGroupName=f"retraining-{recipe}", SortBy="CreationTime", SortOrder="Descending", MaxResults=100
        )
    except ClientError as error:
        if error.response["Error"]["Code"] in ("ValidationException", "ResourceNotFound"):
            return {}  # there is no such group
        raise
    return {
        package["ModelPackageArn"]: package.get("ModelApprovalStatus", "")
        for package in answer["ModelPackageSummaryList"]
    }


def told(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What a page shows of DescribeEndpoint's answer."""
    return {
        "name": endpoint["EndpointName"],
        "config": endpoint.get("EndpointConfigName"),
        "status": endpoint["EndpointStatus"],
        "pending": pending_config(endpoint),
        "failure": endpoint.get("FailureReason", ""),
        "since": endpoint.get("LastModifiedTime"),
        "keeps": _kept(endpoint.get("DataCaptureConfig") or {}),
    }


def _kept(capture: Mapping[str, Any]) -> dict[str, Any] | None:
    """How many of the requests the endpoint keeps, in percent, and where; None where it keeps none."""
    if not capture.get("EnableCapture") or capture.get("CaptureStatus") != "Started":
        return None
    return {"percent": capture.get("CurrentSamplingPercentage"), "where": capture.get("DestinationS3Uri")}


def _row(
    way_back: Callable[[str], str],
    document: Mapping[str, Any],
    champion: Mapping[str, Any] | None,
    endpoint: Mapping[str, Any] | None,
    states: Mapping[str, str],
) -> dict[str, Any]:
    name, scores = str(document["run_name"]), document.get("metrics") or {}
    is_champion = bool(champion) and document["run_name"] == (champion or {}).get("run_name")
    serves = bool(endpoint) and document.get("endpoint_config") == (endpoint or {}).get("EndpointConfigName")
    return {
        "run_name": name,
        "at": _moment(document.get("run_after")),
        "accuracy": number(scores.get("accuracy")),
        "macro_f1": number(scores.get("macro_f1")),
        "reason": str((document.get("rolled_back") or {}).get("reason") or document.get("reason") or ""),
        "back": document.get("rolled_back"),
        "champion": is_champion,
        "serves": serves,
        "registry": states.get(str(document.get("model_package_arn")), ""),
        "line": way_back(name) if RUN_NAME.fullmatch(name) and not (is_champion and serves) else "",
    }


def way_back_in(environment: Environment) -> Callable[[str, str], str]:
    """The line to go back where Airflow runs: in a clone, in containers, or with an account of one's own."""
    if shell := environment.shell:
        return lambda recipe, run_name: f"{shell} {way_back(recipe, run_name)}"
    return local_way_back if environment.local else way_back


def local_way_back(recipe: str, run_name: str) -> str:
    return f"make rollback NAME={shlex.quote(recipe)} TO={run_name} REASON='why'"


def way_back(recipe: str, run_name: str) -> str:
    return f"python -m retraining rollback {shlex.quote(recipe)} --to {run_name} --reason 'why'"


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
