"""Training jobs: create, describe, list, update, stop, delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from local_sagemaker.jobs import status as job_status
from local_sagemaker.jobs import training_job
from local_sagemaker.operations import listing
from local_sagemaker.operations.definition import check_account, check_definition
from local_sagemaker.platform import Platform
from local_sagemaker.state.store import AlreadyExistsError, Record
from local_sagemaker.wire.errors import ApiError, not_stoppable, resource_in_use, validation

__all__ = ["check_definition"]


def create_training_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    check_definition(request, platform)
    check_account(request, platform)
    try:
        record = training_job.create(platform, request)
    except AlreadyExistsError:
        raise resource_in_use(platform.settings.arn(training_job.KIND, request["TrainingJobName"])) from None
    return {"TrainingJobArn": record.describe["TrainingJobArn"]}


def describe_training_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return _find(platform, request).describe


def list_training_jobs(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """WarmPoolStatusEquals selects the jobs whose warm pool has that status, TrainingPlanArnEquals those of a plan."""
    records = platform.store.list(training_job.KIND)
    if wanted := request.get("WarmPoolStatusEquals"):
        records = records.where("json_extract(describe, '$.WarmPoolStatus.Status') = ?", wanted)
    if wanted := request.get("TrainingPlanArnEquals"):
        records = records.where("json_extract(describe, '$.ResourceConfig.TrainingPlanArn') = ?", wanted)
    return listing.page(records, request, member="TrainingJobSummaries", summary=_summary)


def update_training_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """A new profiler configuration or more rules for a running job, or another retention of its warm pool."""
    record = _find(platform, request)
    check = {"ProfilerConfig", "ProfilerRuleConfigurations"} & request.keys()
    check_account(request, platform)
    if check:
        check_definition(record.describe | {name: request[name] for name in check})
    with _refusals():
        return {"TrainingJobArn": training_job.update(platform, request).describe["TrainingJobArn"]}


def stop_training_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """A job that has ended is refused, as on AWS; one that is being stopped is not."""
    record = _find(platform, request)
    if record.status in job_status.TERMINAL:
        raise not_stoppable("training job", record.status)
    training_job.stop(platform, record.name)
    return {}


def delete_training_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    """A job that has not ended is ResourceInUse: the one error AWS's model has for it."""
    record = _find(platform, request)
    try:
        training_job.delete(platform, record.name)
    except ValueError as error:
        raise ApiError("ResourceInUse", str(error)) from None
    return {}


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise validation(str(error)) from None


def _find(platform: Platform, request: dict[str, Any]) -> Record:
    record = platform.store.get(training_job.KIND, request["TrainingJobName"])
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
