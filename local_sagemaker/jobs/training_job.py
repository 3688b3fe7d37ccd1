"""The records of training jobs: created, stopped, interrupted, updated, deleted. Each is carried by a thread (Run)."""

from __future__ import annotations

import time
from typing import Any

from local_sagemaker.background import Background
from local_sagemaker.jobs import artifacts, cluster, rule_evaluation, rule_records
from local_sagemaker.jobs import status as job_status
from local_sagemaker.jobs.training_record import KIND, TrainingRecord
from local_sagemaker.jobs.training_run import TrainingRun
from local_sagemaker.platform import Platform
from local_sagemaker.sandbox import disk
from local_sagemaker.settings import Settings
from local_sagemaker.state.logs import Logs
from local_sagemaker.state.store import Record, Store

__all__ = ["KIND"]

# A job that has just ended still has its thread for a moment (it clears the job's folder).
_SETTLE_S = 10.0

#: Members of CreateTrainingJob that DescribeTrainingJob does not show.
_HIDDEN = {"Tags", "SessionChainingConfig"}


def create(
    platform: Platform,
    request: dict[str, Any],
    *,
    tuning_job_arn: str | None = None,
    tuned: dict[str, str] | None = None,
    parallel: int = 1,
) -> Record:
    """Write the record and start the job. Raises store.AlreadyExistsError for a name that is taken.

    `tuned` are the hyperparameters a tuning job chose for it; `parallel` is how many jobs of the same kind are expected
    beside it, itself included (MaxParallelTrainingJobs).
    """
    describe = _described(platform.settings, request)
    if tuning_job_arn:
        describe["TuningJobArn"] = tuning_job_arn
    job_status.enter(describe, "Starting", describe["CreationTime"])
    internal = {"tags": request.get("Tags", []), "parallel": parallel, "metrics": {}, "tuned": tuned or {}}
    record = platform.store.insert(KIND, request["TrainingJobName"], describe, internal, parent=tuning_job_arn)
    carry(platform, record.name)
    return record


def carry(platform: Platform, name: str) -> None:
    """Start the thread of a job: a new one, or one that an earlier server left unfinished."""
    rule_records.create(platform.store, platform.settings, name)
    platform.background.start(KIND, name, lambda stop: TrainingRun(platform, name, stop).run())


def resume(platform: Platform) -> None:
    """After a restart: follow, finish or fail every job that an earlier server left; those that run come first."""
    left = [
        record
        for record in platform.store.list(KIND)
        if record.status not in job_status.TERMINAL or rule_records.pending(record.describe)
    ]
    for record in sorted(left, key=lambda record: "TrainingStartTime" not in record.describe):
        carry(platform, record.name)


def stop(store: Store, logs: Logs, background: Background, name: str) -> None:
    """Ask for a stop; a job that has ended stays as it is."""
    TrainingRecord(store, logs, name).request_stop()
    background.stop(KIND, name)


def interrupt(store: Store, name: str) -> None:
    """Take the instances of a managed spot job away, as AWS does when it needs them; the job starts again.

    Raises ValueError, with the reason, for a job that cannot be interrupted.
    """

    def change(record: Record) -> None:
        describe = record.describe
        if not describe["EnableManagedSpotTraining"]:
            raise ValueError(f"Training job '{name}' has no EnableManagedSpotTraining; only spot jobs are interrupted.")
        if describe["TrainingJobStatus"] != "InProgress" or describe["SecondaryStatus"] not in _INTERRUPTIBLE:
            status = f"{describe['TrainingJobStatus']} ({describe['SecondaryStatus']})"
            raise ValueError(f"Training job '{name}' is {status}; only jobs that hold instances are interrupted.")
        record.internal["interrupt"] = True

    store.update(KIND, name, change)


_INTERRUPTIBLE = {"Starting", "Downloading", "Training"}


def update(store: Store, settings: Settings, request: dict[str, Any]) -> Record:
    """UpdateTrainingJob. Raises ValueError, with the reason, for what cannot be changed (any more)."""
    name = request["TrainingJobName"]

    def change(record: Record) -> None:
        describe = record.describe
        running = describe["TrainingJobStatus"] == "InProgress"
        if not running and request.keys() & {"ProfilerConfig", "ProfilerRuleConfigurations", "RemoteDebugConfig"}:
            raise ValueError(f"Training job '{name}' is {describe['TrainingJobStatus']}; only InProgress jobs change.")
        if "ResourceConfig" in request:
            if describe.get("WarmPoolStatus", {}).get("Status") not in {"InUse", "Available"}:
                raise ValueError(f"Training job '{name}' has no warm pool whose retention could be changed.")
            describe["ResourceConfig"] |= request["ResourceConfig"]
        if "ProfilerConfig" in request:
            describe["ProfilerConfig"] = describe.get("ProfilerConfig", {}) | request["ProfilerConfig"]
            describe["ProfilingStatus"] = _profiling_status(describe["ProfilerConfig"])
        if "RemoteDebugConfig" in request:
            describe["RemoteDebugConfig"] = request["RemoteDebugConfig"]
        if added := request.get("ProfilerRuleConfigurations"):
            _add_rules(settings, describe, "ProfilerRuleConfigurations", "ProfilerRuleEvaluationStatuses", added)

    record = store.update(KIND, name, change)
    rule_records.create(store, settings, name)
    return record


def delete(store: Store, settings: Settings, background: Background, name: str) -> None:
    """Forget a job that has ended; its objects in S3 and its log stay. Raises ValueError while it has not ended."""
    record = store.get(KIND, name)
    if record and (record.status not in job_status.TERMINAL or rule_records.pending(record.describe)):
        raise ValueError(f"Training job '{name}' is {record.status} or its rules are still evaluated.")
    deadline = time.monotonic() + _SETTLE_S
    while background.carries(KIND, name):
        if time.monotonic() > deadline:
            raise ValueError(f"Training job '{name}' is still being cleared away; try again in a moment.")
        time.sleep(0.05)
    store.delete(KIND, name)
    for folder in (settings.folder(KIND, name), rule_evaluation.folder_of(settings, name)):
        disk.remove(folder)


def _described(settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
    """What DescribeTrainingJob answers right after the creation: the request, its defaults, the first status."""
    now = time.time()
    name = request["TrainingJobName"]
    describe: dict[str, Any] = {key: value for key, value in request.items() if key not in _HIDDEN}
    describe |= {
        "TrainingJobArn": settings.arn(KIND, name),
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "ModelArtifacts": {"S3ModelArtifacts": artifacts.model_uri(request)},
        "StoppingCondition": {
            "MaxRuntimeInSeconds": job_status.DEFAULT_MAX_RUNTIME_S,
            **request.get("StoppingCondition", {}),
        },
        "ResourceConfig": _resources(request),
        "OutputDataConfig": {"KmsKeyId": "", "CompressionType": "GZIP", **request["OutputDataConfig"]},
        "CreationTime": now,
        "LastModifiedTime": now,
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
        "EnableInterContainerTrafficEncryption": request.get("EnableInterContainerTrafficEncryption", False),
        "EnableManagedSpotTraining": request.get("EnableManagedSpotTraining", False),
    }
    if "InputDataConfig" in request:
        defaults = {"CompressionType": "None", "RecordWrapperType": "None"}
        describe["InputDataConfig"] = [defaults | channel for channel in request["InputDataConfig"]]
    if "ProfilerConfig" in request:
        describe["ProfilingStatus"] = _profiling_status(request["ProfilerConfig"])
    if request["ResourceConfig"].get("KeepAlivePeriodInSeconds"):
        describe["WarmPoolStatus"] = {"Status": "InUse"}
    for configuration, statuses in rule_records.MEMBERS:
        if added := describe.pop(configuration, None):
            _add_rules(settings, describe, configuration, statuses, added)
    return describe


def _resources(request: dict[str, Any]) -> dict[str, Any]:
    resources: dict[str, Any] = dict(request["ResourceConfig"])
    if "InstancePreferences" in resources:  # the first one always has capacity here
        hosts = cluster.hosts(request)
        resources |= {"SelectedInstanceType": hosts[0].instance_type, "SelectedInstanceCount": len(hosts)}
    return resources


def _profiling_status(config: dict[str, Any]) -> str:
    return "Disabled" if config.get("DisableProfiler") else "Enabled"


def _add_rules(
    settings: Settings, describe: dict[str, Any], configuration: str, statuses: str, added: list[dict[str, Any]]
) -> None:
    known = describe.setdefault(configuration, [])
    new = [
        rule for rule in added if rule["RuleConfigurationName"] not in {one["RuleConfigurationName"] for one in known}
    ]
    describe[configuration] = known + new
    now = time.time()
    started = rule_records.initial_statuses(settings, describe["TrainingJobName"], new, now)
    describe[statuses] = [*describe.get(statuses, []), *started]
