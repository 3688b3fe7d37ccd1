"""Whether some run of a recipe is at its paid work, as SageMaker tells it: what must not be done beneath one."""

from __future__ import annotations

from typing import Any

from retraining.plan import Plan, name_prefix

LISTS = (
    ("list_hyper_parameter_tuning_jobs", "HyperParameterTuningJobSummaries", "HyperParameterTuningJobName"),
    ("list_training_jobs", "TrainingJobSummaries", "TrainingJobName"),
    ("list_transform_jobs", "TransformJobSummaries", "TransformJobName"),
    ("list_processing_jobs", "ProcessingJobSummaries", "ProcessingJobName"),
)


def job_at_work(sagemaker: Any, plan: Plan) -> str | None:
    """The name of a job of the recipe that is in progress. Between jobs no run is seen."""
    prefix = name_prefix(plan.recipe.name)
    letters = len(f"{prefix}-261121-030000-a1b2c")
    for operation, members, name in LISTS:
        pages = sagemaker.get_paginator(operation).paginate(NameContains=prefix, StatusEquals="InProgress")
        for job in (job for page in pages for job in page[members]):
            if plan.owns(job[name][:letters]):
                return str(job[name])
    return None
