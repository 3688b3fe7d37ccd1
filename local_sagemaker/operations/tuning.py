"""Hyperparameter tuning jobs: create, describe, list, stop, and list their training jobs."""

from __future__ import annotations

from typing import Any

from local_sagemaker.operations import listing, training
from local_sagemaker.platform import Platform
from local_sagemaker.state.store import AlreadyExistsError, Record
from local_sagemaker.tuning import tuner, tuning_job
from local_sagemaker.wire.errors import resource_in_use, resource_not_found, validation

_STRATEGIES = ("Bayesian", "Random")


def create_hyper_parameter_tuning_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    _check(platform, request)
    try:
        record = tuning_job.create(platform, request)
    except AlreadyExistsError:
        name = request["HyperParameterTuningJobName"]
        raise resource_in_use(platform.settings.arn(tuning_job.KIND, name)) from None
    return {"HyperParameterTuningJobArn": record.describe["HyperParameterTuningJobArn"]}


def describe_hyper_parameter_tuning_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return _find(platform, request).describe


def list_hyper_parameter_tuning_jobs(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    return listing.page(
        platform.store.list(tuning_job.KIND),
        request,
        member="HyperParameterTuningJobSummaries",
        summary=_summary,
    )


def stop_hyper_parameter_tuning_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    tuning_job.stop(platform, _find(platform, request).name)
    return {}


def list_training_jobs_for_hyper_parameter_tuning_job(platform: Platform, request: dict[str, Any]) -> dict[str, Any]:
    record = _find(platform, request)
    metric = record.describe["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["MetricName"]

    def by_objective(child: Record) -> tuple[bool, float]:
        value = tuning_job.objective(child, metric)
        return value is not None, value or 0.0

    return listing.page(
        tuning_job.children(platform, record),
        request,
        member="TrainingJobSummaries",
        summary=lambda child: tuning_job.summary(child, metric),
        sort_keys={"FinalObjectiveMetricValue": by_objective},
        default_order="Ascending",
    )


def _check(platform: Platform, request: dict[str, Any]) -> None:
    """Raises a ValidationException for what cannot work, before any training job has started."""
    config = request["HyperParameterTuningJobConfig"]
    definition = request.get("TrainingJobDefinition")
    if definition is None or "TrainingJobDefinitions" in request:
        raise validation(
            "TrainingJobDefinitions: local_sagemaker does not yet tune several definitions; give TrainingJobDefinition."
        )
    if config["Strategy"] not in _STRATEGIES:
        raise validation(
            f"Strategy '{config['Strategy']}' is not yet implemented here; there is {' and '.join(_STRATEGIES)}."
        )
    if "Autotune" in request:
        raise validation("Autotune: not yet implemented by local_sagemaker; leave it out.")
    if "ParameterRanges" not in config or "HyperParameterTuningJobObjective" not in config:
        raise validation("HyperParameterTuningJobConfig needs ParameterRanges and HyperParameterTuningJobObjective.")
    _check_names(config, definition)
    for parent in request.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", []):
        _find(platform, parent)
    training.check_definition(definition)


def _check_names(config: dict[str, Any], definition: dict[str, Any]) -> None:
    tuned = {item.name for item in tuner.parse_ranges(config["ParameterRanges"])}
    if not tuned:
        raise validation("ParameterRanges holds no range; a tuning job needs at least one.")
    if both := tuned & set(definition.get("StaticHyperParameters", {})):
        raise validation(f"Hyperparameters {', '.join(sorted(both))} are both static and tuned.")
    metric = config["HyperParameterTuningJobObjective"]["MetricName"]
    defined = {item["Name"] for item in definition["AlgorithmSpecification"].get("MetricDefinitions", [])}
    if metric not in defined:
        known = ", ".join(sorted(defined)) or "none"
        raise validation(f"The objective metric '{metric}' has no MetricDefinition; defined are: {known}.")


def _find(platform: Platform, request: dict[str, Any]) -> Record:
    name = request["HyperParameterTuningJobName"]
    record = platform.store.get(tuning_job.KIND, name)
    if record is None:
        arn = platform.settings.arn(tuning_job.KIND, name)
        raise resource_not_found(f"Amazon SageMaker can't find a tuning job with the name {name} ({arn}).")
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
