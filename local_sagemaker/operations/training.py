"""Training jobs: create, describe, list, update, stop, delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from local_sagemaker.background import Background
from local_sagemaker.jobs import status as job_status
from local_sagemaker.jobs import training_job
from local_sagemaker.operations import listing
from local_sagemaker.operations.definition import check_account, check_data, check_definition, check_machine
from local_sagemaker.platform import Platform
from local_sagemaker.settings import Settings
from local_sagemaker.state.logs import Logs
from local_sagemaker.state.store import AlreadyExistsError, Record, Store
from local_sagemaker.wire.errors import ApiError, not_stoppable, resource_in_use, validation


def create_training_job(request: dict[str, Any], *, platform: Platform) -> dict[str, Any]:
    check_definition(request)
    check_machine(request, platform.settings, platform.isolation, platform.patterns)
    check_account(request, platform.settings)
    check_data(request, platform.settings, platform.objects)
    try:
        record = training_job.create(platform, request)
    except AlreadyExistsError:
        raise resource_in_use(platform.settings.arn(training_job.KIND, request["TrainingJobName"])) from None
    return {"TrainingJobArn": record.describe["TrainingJobArn"]}


def describe_training_job(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    return _find(store, request).describe


def list_training_jobs(request: dict[str, Any], *, store: Store) -> dict[str, Any]:
    """WarmPoolStatusEquals selects the jobs whose warm pool has that status, TrainingPlanArnEquals those of a plan."""
    records = store.list(training_job.KIND)
    if wanted := request.get("WarmPoolStatusEquals"):
        records = records.where("json_extract(describe, '$.WarmPoolStatus.Status') = ?", wanted)
    if wanted := request.get("TrainingPlanArnEquals"):
        records = records.where("json_extract(describe, '$.ResourceConfig.TrainingPlanArn') = ?", wanted)
    return listing.page(records, request, member="TrainingJobSummaries", summary=_summary)


def update_training_job(request: dict[str, Any], *, store: Store, settings: Settings) -> dict[str, Any]:
    """A new profiler configuration or more rules for a running job, or another retention of its warm pool."""
    record = _find(store, request)
    check = {"ProfilerConfig", "ProfilerRuleConfigurations"} & request.keys()
    check_account(request, settings)
    if check:
        check_definition(record.describe | {name: request[name] for name in check})
    with _refusals():
        return {"TrainingJobArn": training_job.update(store, settings, request).describe["TrainingJobArn"]}


def stop_training_job(request: dict[str, Any], *, store: Store, logs: Logs, background: Background) -> dict[str, Any]:
    """A job that has ended is refused, as on AWS; one that is being stopped is not."""
    record = _find(store, request)
    if record.status in job_status.TERMINAL:
        raise not_stoppable("training job", record.status)
    training_job.stop(store, logs, background, record.name)
    return {}


def delete_training_job(
    request: dict[str, Any], *, store: Store, settings: Settings, background: Background
) -> dict[str, Any]:
    """A job that has not ended is ResourceInUse: the one error AWS's model has for it."""
    record = _find(store, request)
    try:
        training_job.delete(store, settings, background, record.name)
    except ValueError as error:
        raise ApiError("ResourceInUse", str(error)) from None
    return {}


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise validation(str(error)) from None


def _find(store: Store, request: dict[str, Any]) -> Record:
    record = store.get(training_job.KIND, request["TrainingJobName"])
    if record is None:
        raise ApiError("ValidationException", "Requested resource not found.")
    return record


def _summary(record: Record) -> dict[str, Any]:
    members = (
        "TrainingJobName",
        "TrainingJobArn",
        "CreationTime",
        "TrainingEndTime",
        "LastModifiedTime",
        "TrainingJobStatus",
        "SecondaryStatus",
        "WarmPoolStatus",
    )
    return {name: record.describe[name] for name in members if name in record.describe}
