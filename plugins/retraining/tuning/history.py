"""The earlier tuning jobs of a recipe, as SageMaker remembers them."""

from __future__ import annotations

import logging
import re
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

from retraining.plan import Plan, name_prefix

log = logging.getLogger(__name__)

# How many of the newest are looked at, each with a Describe call, for the few that a search may begin from.
NEWEST = 10
# How far back the list is read: names of other people's jobs may contain this recipe's.
LISTED = 500


def earlier_searches(sagemaker: Any, plan: Plan, champions: str | None) -> list[dict[str, Any]]:
    """The champion's tuning job and then the newest others, as described. What cannot be described is missing.

    Nothing here fails a run but an unreachable service: who may not list tuning jobs has the champion's alone.
    """
    names = dict.fromkeys([*([champions] if champions else []), *_newest(sagemaker, plan)])
    described = (_describe(sagemaker, name) for name in names if _run_name(name) != plan.run_name)
    return [job for job in described if job is not None]


def _newest(sagemaker: Any, plan: Plan) -> list[str]:
    pages = sagemaker.get_paginator("list_hyper_parameter_tuning_jobs").paginate(
        NameContains=f"{name_prefix(plan.recipe.name)}-",
        SortBy="CreationTime",
        SortOrder="Descending",
        PaginationConfig={"MaxItems": LISTED, "PageSize": 100},
    )
    names = (job["HyperParameterTuningJobName"] for page in pages for job in page["HyperParameterTuningJobSummaries"])
    try:
        return list(islice((name for name in names if plan.owns(_run_name(name))), NEWEST))
    except ClientError as error:
        log.warning(
            "The earlier tuning jobs cannot be listed, so a search can begin from the champion's only: %s", error
        )
        return []


def _describe(sagemaker: Any, name: str) -> dict[str, Any] | None:
    try:
        return dict(sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name))
    except ClientError as error:
        log.warning("Tuning job %s cannot be looked at, so the search does not begin from it: %s", name, error)
        return None


def _run_name(tuning_job: str) -> str:
    """Of the run that made it; a second job for one run ends with -g2."""
    return re.sub(r"-g\d$", "", tuning_job)
