"""What is known of a training job's Debugger rules: the status list of the job, and a processing job for each rule.

Both are written in one transaction, so a killed server leaves them agreed; whatever is InProgress then is evaluated
again. Who ends a rule first decides: a second end changes nothing.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable
from typing import Any

from local_sagemaker import s3
from local_sagemaker.jobs.processing_job import KIND, RULE
from local_sagemaker.jobs.status import DEFAULT_MAX_RUNTIME_S
from local_sagemaker.settings import Settings
from local_sagemaker.state.logs import PROCESSING_JOBS, Logs
from local_sagemaker.state.store import Record, Store

#: (member of the request, member of the response) for debug rules and profiler rules.
MEMBERS = (
    ("DebugRuleConfigurations", "DebugRuleEvaluationStatuses"),
    ("ProfilerRuleConfigurations", "ProfilerRuleEvaluationStatuses"),
)

# A rule that never ends would keep the DAG waiting for ever.
TIMEOUT_S = 1800.0
"""What the rules get when their training job has ended."""

_TRAINING = "training-job"
_HOST = "algo-1"
_LOCAL_PATH = "/opt/ml/processing/output/rule"
_DETAILS_LIMIT = 1024

# What a rule's evaluation has when its configuration does not say; AWS documents only the volume.
_INSTANCE_TYPE = "ml.t3.medium"
_VOLUME_GB = 30

_MAX_RUNTIME_S = 9 * 86_400
"""Of a processing job, by AWS's model."""

Status = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """A rule that has no verdict yet."""

    name: str
    evaluation: str
    """The name of its processing job."""
    configuration: dict[str, Any]


def initial_statuses(settings: Settings, job: str, rules: list[dict[str, Any]], now: float) -> list[Status]:
    """InProgress entries, one per rule, each with the name of the processing job that evaluates it."""
    statuses = []
    for rule in rules:
        name = rule["RuleConfigurationName"]
        evaluation = f"{_part(job)}-{_part(name).lower()}-{uuid.uuid4().hex[:8]}"
        statuses.append(
            {
                "RuleConfigurationName": name,
                "RuleEvaluationJobArn": settings.arn(KIND, evaluation),
                "RuleEvaluationStatus": "InProgress",
                "LastModifiedTime": now,
            }
        )
    return statuses


def pending(describe: dict[str, Any]) -> list[Rule]:
    """The rules of a training job that have no verdict yet."""
    return [Rule(status["RuleConfigurationName"], _evaluation(status), rule) for rule, status in _pending(describe)]


def create(store: Store, settings: Settings, job: str) -> None:
    """Make the processing jobs of a training job's pending rules; those that are there already stay as they are."""

    def change(record: Record) -> None:
        for rule in pending(record.describe):
            if store.get(KIND, rule.evaluation) is None:
                describe = _describe(settings, record, rule)
                store.insert(KIND, rule.evaluation, describe, {RULE: rule.name}, parent=record.name)

    record = store.get(_TRAINING, job)
    if record is not None and pending(record.describe):
        store.update(_TRAINING, job, change)


def begun(store: Store, rule: Rule) -> None:
    """An evaluator has taken the rule up."""
    now = time.time()
    store.update(KIND, rule.evaluation, lambda record: record.describe.setdefault("ProcessingStartTime", now) and None)


def end(
    store: Store, job: str, evaluation: str, verdict: dict[str, Any], beside: Callable[[], None] | None = None
) -> None:
    """Give a rule its terminal status, RuleEvaluationStatus and StatusDetails of `verdict`, unless it has one.

    `beside` does what has to happen with it, in the same transaction; it may change any record but the evaluation's.
    """
    now = time.time()
    found = {"RuleEvaluationStatus": str(verdict["RuleEvaluationStatus"])}
    if details := str(verdict.get("StatusDetails") or "")[:_DETAILS_LIMIT]:
        found["StatusDetails"] = details

    def change_training(record: Record) -> None:
        for _, status in _pending(record.describe):
            if _evaluation(status) == evaluation:
                status.update(found, LastModifiedTime=now)

    def change(record: Record) -> None:
        if record.status != "InProgress":
            return
        _end(record, found, now)
        store.update(_TRAINING, job, change_training)
        if beside:
            beside()

    store.update(KIND, evaluation, change)


def stop(store: Store, evaluation: Record) -> None:
    """StopProcessingJob of a rule: it ends at once; one that has ended stays, and its training job may be gone."""
    if evaluation.status == "InProgress":
        end(store, str(evaluation.parent), evaluation.name, {"RuleEvaluationStatus": "Stopped"})


def say(store: Store, logs: Logs, evaluation: str, lines: list[str]) -> None:
    """Lines into the log stream of a rule."""
    record = store.get(KIND, evaluation)
    if record is not None:
        logs.put(PROCESSING_JOBS, f"{evaluation}/{_HOST}-{int(record.created)}", lines)


def target(describe: dict[str, Any], rule: Rule) -> str:
    """Where in S3 the output of a job's rules goes, each into a folder of its name."""
    path = rule.configuration.get("S3OutputPath") or describe["OutputDataConfig"]["S3OutputPath"]
    return s3.join(path, describe["TrainingJobName"], "rule-output")


def max_runtime_s(describe: dict[str, Any]) -> int:
    """How long an evaluation may take that begins with the training; no training is longer between two steps."""
    return int(describe.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME_S) + TIMEOUT_S)


def _end(evaluation: Record, verdict: dict[str, str], now: float) -> None:
    """A condition that was met is no failure of the processing job: its details are the exit message."""
    status, details = verdict["RuleEvaluationStatus"], verdict.get("StatusDetails")
    ended = {"Error": "Failed", "Stopped": "Stopped"}.get(status, "Completed")
    evaluation.describe |= {"ProcessingJobStatus": ended, "ProcessingEndTime": now}
    if details:
        evaluation.describe["FailureReason" if ended == "Failed" else "ExitMessage"] = details


def _pending(describe: dict[str, Any]) -> list[tuple[dict[str, Any], Status]]:
    """The rules that have no verdict yet, each with its entry in the status list."""
    found = []
    for configuration, member in MEMBERS:
        by_name = {rule["RuleConfigurationName"]: rule for rule in describe.get(configuration, [])}
        for status in describe.get(member, []):
            if status["RuleEvaluationStatus"] == "InProgress":
                found.append((by_name[status["RuleConfigurationName"]], status))
    return found


def _evaluation(status: Status) -> str:
    """The name of a rule's processing job."""
    return str(status["RuleEvaluationJobArn"].rpartition("/")[2])


def _describe(settings: Settings, record: Record, rule: Rule) -> dict[str, Any]:
    output = {"S3Uri": target(record.describe, rule), "LocalPath": _LOCAL_PATH, "S3UploadMode": "Continuous"}
    cluster = {
        "InstanceCount": 1,
        "InstanceType": rule.configuration.get("InstanceType", _INSTANCE_TYPE),
        "VolumeSizeInGB": rule.configuration.get("VolumeSizeInGB") or _VOLUME_GB,
    }
    now = record.describe["CreationTime"]
    return {
        "ProcessingJobName": rule.evaluation,
        "ProcessingJobArn": settings.arn(KIND, rule.evaluation),
        "TrainingJobArn": record.describe["TrainingJobArn"],
        "ProcessingJobStatus": "InProgress",
        "AppSpecification": {"ImageUri": rule.configuration["RuleEvaluatorImage"]},
        "Environment": rule.configuration.get("RuleParameters", {}),
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "rule", "S3Output": output, "AppManaged": False}]},
        "ProcessingResources": {"ClusterConfig": cluster},
        "RoleArn": record.describe["RoleArn"],
        "StoppingCondition": {"MaxRuntimeInSeconds": min(_MAX_RUNTIME_S, max_runtime_s(record.describe))},
        "CreationTime": now,
        "LastModifiedTime": now,
    }


def _part(name: str) -> str:
    """What of a name goes into a processing job's: letters and digits, with single hyphens between them."""
    words = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name[:26])
    return "-".join(word for word in words.split("-") if word) or "rule"
