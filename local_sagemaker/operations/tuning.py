"""Hyperparameter tuning jobs: create, describe, list, stop, delete, and list their training jobs."""

from __future__ import annotations

from typing import Any

from local_sagemaker.background import Background, stop_job
from local_sagemaker.jobs.status import TERMINAL
from local_sagemaker.operations import listing
from local_sagemaker.operations.definition import check_data, check_definition, check_machine
from local_sagemaker.platform import Platform
from local_sagemaker.state.store import AlreadyExistsError, Record, Store
from local_sagemaker.tuning import child as child_jobs
from local_sagemaker.tuning import tuning_job, warm_start
from local_sagemaker.tuning.definition import described, resources
from local_sagemaker.tuning.plan import Plan
from local_sagemaker.wire.errors import not_stoppable, resource_in_use, resource_not_found, validation


def create_hyper_parameter_tuning_job(request: dict[str, Any], *, platform: Platform) -> dict[str, Any]:
    """Refuses what cannot work before any training job has started."""
    plan = Plan.of(request)
    for definition in plan.definitions:
        own = {"ResourceConfig": resources(definition.request), "StaticHyperParameters": definition.static}
        job = definition.request | own
        check_definition(job)
        check_machine(job, platform.settings, platform.isolation, platform.patterns)
        check_data(job, platform.settings, platform.objects)
    for name in warm_start.parents(request):
        parent = _get(platform.store, name)
        warm_start.check(request, plan, name, parent.describe, str(parent.status))
    try:
        record = tuning_job.create(platform, request)
    except AlreadyExistsError:
        name = request["HyperParameterTuningJobName"]
        raise resource_in_use(platform.settings.arn(tuning_job.KIND, name)) from None
    return {"HyperParameterTuningJobArn": record.describe["HyperParameterTuningJobArn"]}


def describe_hyper_parameter_tuning_job(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    return described(_find(store, request).describe)


def list_hyper_parameter_tuning_jobs(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    return listing.page(
        store.list(tuning_job.KIND),
        request,
        member="HyperParameterTuningJobSummaries",
        summary=_summary,
        default_sort="Name",
        default_order="Ascending",
    )


def stop_hyper_parameter_tuning_job(request: dict[str, Any], *, store: Store, background: Background) -> dict[str, Any]:
    """Its running training jobs are stopped too. One that has ended is refused, as on AWS."""
    record = _find(store, request)
    if record.status in TERMINAL:
        raise not_stoppable("hyperparameter tuning job", record.status)
    stop_job(store, background, tuning_job.KIND, record.name)
    return {}


def delete_hyper_parameter_tuning_job(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    """Forget the tuning job; its training jobs and their artifacts stay.

    AWS documents no error of this operation, so a name that is not there is not one. A job that has not ended is
    refused in words by which Terraform knows that it must be stopped first.
    """
    name = request["HyperParameterTuningJobName"]
    record = store.get(tuning_job.KIND, name)
    if record is not None and record.status not in TERMINAL:
        raise validation(
            f"Tuning job {name} is {record.status}, which is not in a terminal state; stop it before you delete it."
        )
    store.delete(tuning_job.KIND, name)
    return {}


def list_training_jobs_for_hyper_parameter_tuning_job(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    """Sorted by FinalObjectiveMetricValue, jobs without one are not listed, as AWS documents."""
    record = _find(store, request)
    plan = Plan.of(record.describe)
    found = child_jobs.of(record, child_jobs.records(store, record), plan)
    by_objective = request.get("SortBy") == "FinalObjectiveMetricValue"
    shown = [child for child in found if not by_objective or child.objective_status == "Succeeded"]
    summaries = {child.record.name: child for child in shown}
    return listing.page(
        [child.record for child in shown],
        request,
        member="TrainingJobSummaries",
        summary=lambda job: summaries[job.name].summary(),
        sort_keys={"FinalObjectiveMetricValue": lambda job: summaries[job.name].objective},
        default_sort="Name",
        default_order="Ascending",
    )


def _find(store: Store, request: dict[str, Any]) -> Record:
    return _get(store, request["HyperParameterTuningJobName"])


def _get(store: Store, name: str) -> Record:
    record = store.get(tuning_job.KIND, name)
    if record is None:
        raise resource_not_found(f"Amazon SageMaker can't find a tuning job called {name}. Type another name.")
    return record


def _summary(record: Record) -> dict[str, Any]:
    members = (
        "HyperParameterTuningJobName",
        "HyperParameterTuningJobArn",
        "HyperParameterTuningJobStatus",
        "CreationTime",
        "HyperParameterTuningEndTime",
        "LastModifiedTime",
        "TrainingJobStatusCounters",
        "ObjectiveStatusCounters",
    )
    config = record.describe["HyperParameterTuningJobConfig"]
    return {name: record.describe[name] for name in members if name in record.describe} | {
        "Strategy": config["Strategy"],
        "ResourceLimits": config["ResourceLimits"],
    }
