"""All jobs that a run has paid for, found by their names: also those of tasks that failed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from retraining.cost.billing import billed
from retraining.job_kinds import KINDS, MAX_GENERATIONS, is_missing
from retraining.run import Run

log = logging.getLogger(__name__)


def bill(run: Run) -> dict[str, Any] | None:
    """What they were billed; None when SageMaker would not say: a report without a bill is better than none."""
    try:
        return billed(paid_jobs(run), run.recipe.budget.usd_per_hour)
    except ClientError as error:
        log.warning("What this run was billed is not known: %s", error)
        return None


def paid_jobs(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Task → the Describe answers of its jobs, of each generation."""
    plan, sagemaker = run.plan, run.sagemaker
    trials = [
        sagemaker.describe_training_job(TrainingJobName=trial["TrainingJobName"])
        for search in _generations(sagemaker, "tuning", plan.tuning_job)
        for page in sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
            HyperParameterTuningJobName=search["HyperParameterTuningJobName"]
        )
        for trial in page["TrainingJobSummaries"]
    ]
    scored = {
        "score_candidate": plan.candidate_scoring_job,
        "score_champion": plan.champion_scoring_job,
    }
    if plan.recipe.in_captured_shadow:
        scored |= {"shadow_candidate": plan.shadow_candidate_job, "shadow_champion": plan.shadow_champion_job}
    verifying = {"verify_images": plan.verification_job} if plan.recipe.may_verify_in_a_job else {}
    return {
        **{task: list(_generations(sagemaker, "processing", name)) for task, name in verifying.items()},
        "tune": trials,
        "train": list(_generations(sagemaker, "training", plan.training_job)),
        "evaluate_rules": list(_generations(sagemaker, "processing", plan.evaluation_job)),
        **{task: list(_generations(sagemaker, "transform", name)) for task, name in scored.items()},
    }


def _generations(sagemaker: Any, kind_name: str, name: str) -> Iterator[dict[str, Any]]:
    kind = KINDS[kind_name]
    for number in range(1, MAX_GENERATIONS + 1):
        try:
            yield getattr(sagemaker, kind.describe)(**{kind.name_key: kind.generation(name, number)})
        except ClientError as error:
            if not is_missing(error):
                raise
            return
