"""Debugger rules: each evaluation is a processing job of its own, the evaluator is one process for all rules of a job.

It runs after the training job. What is known of an evaluation stands in two records, its processing job and the status
list of the training job; both are written in one transaction, so a killed server leaves them agreed, and whatever is
InProgress then is evaluated again. A stopped evaluation ends at once; the evaluator goes on for the others.
"""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

from local_sagemaker import s3
from local_sagemaker.jobs.processing_job import KIND, RULE
from local_sagemaker.platform import Platform
from local_sagemaker.sandbox import cores
from local_sagemaker.sandbox.environment import process_environment
from local_sagemaker.sandbox.images import Image
from local_sagemaker.sandbox.process import JobProcess, OutputTail, output_path
from local_sagemaker.settings import Settings
from local_sagemaker.state import logs
from local_sagemaker.state.store import Record

#: (member of the request, member of the response) for debug rules and profiler rules.
MEMBERS = (
    ("DebugRuleConfigurations", "DebugRuleEvaluationStatuses"),
    ("ProfilerRuleConfigurations", "ProfilerRuleEvaluationStatuses"),
)

# A rule that never ends would keep the DAG waiting for ever.
TIMEOUT_S = 1800.0

_TRAINING = "training-job"
_HOST = "algo-1"
_LOCAL_PATH = "/opt/ml/processing/output/rule"
_DETAILS_LIMIT = 1024

# What a rule's evaluation has when its configuration does not say; AWS documents only the volume.
_INSTANCE_TYPE = "ml.t3.medium"
_VOLUME_GB = 30

Rule = dict[str, Any]
Status = dict[str, Any]


def initial_statuses(settings: Settings, job: str, rules: list[Rule], now: float) -> list[Status]:
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


def create_evaluations(platform: Platform, job: str) -> None:
    """Make the processing jobs of a training job's pending rules; those that are there already stay as they are."""

    def change(record: Record) -> None:
        for rule, status in _pending(record.describe):
            name = _evaluation(status)
            if platform.store.get(KIND, name) is None:
                describe = _describe(record, rule, status, name)
                platform.store.insert(KIND, name, describe, {RULE: rule["RuleConfigurationName"]}, parent=record.name)

    record = platform.store.get(_TRAINING, job)
    if record is not None and pending(record.describe):
        platform.store.update(_TRAINING, job, change)


def pending(describe: dict[str, Any]) -> bool:
    return bool(_pending(describe))


def stop(platform: Platform, evaluation: Record) -> None:
    """End the evaluation of one rule; one that has ended stays as it is, and its training job may be gone."""
    name = evaluation.internal[RULE]
    if evaluation.status == "InProgress":
        _publish(platform, str(evaluation.parent), {name: {"RuleEvaluationStatus": "Stopped"}})


def evaluate(platform: Platform, job: str, tensors: Path, profiler: Path) -> None:
    """Evaluate all pending rules of an ended job, upload what they wrote, and set every status to a terminal one."""
    create_evaluations(platform, job)
    record = platform.store.get(_TRAINING, job)
    if record is None or not pending(record.describe):
        return
    rules = [rule for rule, _ in _pending(record.describe)]
    output = platform.folder(_TRAINING, job) / "rule-output"
    by_image: dict[str, list[Rule]] = {}
    for rule in rules:
        by_image.setdefault(rule["RuleEvaluatorImage"], []).append(rule)
    problems: dict[str, str] = {}
    problem: str | None
    for uri, group in by_image.items():
        image = platform.images.find(uri)
        if image is None or image.rules is None:
            problem = f"ClientError: {platform.images.explain(uri)} with 'rules'"
        else:
            problem = _run(platform, record, image, group, tensors, profiler, output)
        if problem:
            problems |= {rule["RuleConfigurationName"]: problem for rule in group}
    if platform.background.shutdown.is_set():
        return  # cut off, so nothing is known; the statuses stay InProgress for the next server
    verdicts = {rule["RuleConfigurationName"]: _verdict(output, rule, problems) for rule in rules}
    for rule in rules:
        _upload(platform, record, rule, output)
    _publish(platform, job, verdicts)


def _run(
    platform: Platform,
    record: Record,
    image: Image,
    rules: list[Rule],
    tensors: Path,
    profiler: Path,
    output: Path,
) -> str | None:
    """Run the evaluator over some rules; returns what went wrong, if anything."""
    folder = platform.folder(_TRAINING, record.name) / "rules"
    folder.mkdir(parents=True, exist_ok=True)
    if orphan := JobProcess.adopt(folder):
        orphan.kill()  # an earlier server's, which would write the same files
    names = [rule["RuleConfigurationName"] for rule in rules]
    _begin(platform, record.name, names)
    process = JobProcess.start(
        [image.interpreter, *(image.rules or ()), *_arguments(record, rules, folder, tensors, profiler, output)],
        environment=process_environment(image.interpreter, folder, num_threads=1),
        cwd=folder,
        folder=folder,
        nice=cores.NICE_TRAINING,
    )
    tail = OutputTail(output_path(folder))
    deadline = time.monotonic() + TIMEOUT_S
    code, last = None, [""]
    try:
        while code is None and time.monotonic() < deadline and not platform.background.shutdown.is_set():
            code = process.wait(0.2)
            last = _log(platform, record, names, tail.lines(), last)
            if not _any_wanted(platform, record.name, names):
                return None
    finally:
        process.kill()
        last = _log(platform, record, names, tail.lines(final=True), last)
    if code is None:
        return f"InternalServerError: rule evaluation did not end within {TIMEOUT_S:.0f} s"
    if code != 0:
        return f"InternalServerError: rule evaluator ended with exit code {code}: {' '.join(last).strip()}"
    return None


def _arguments(
    record: Record, rules: list[Rule], folder: Path, tensors: Path, profiler: Path, output: Path
) -> list[str]:
    """The evaluator's command line; what it has to know of the job and its rules is written into two files."""
    members = ("TrainingJobName", "CreationTime", "TrainingStartTime", "TrainingEndTime", "HyperParameters")
    job = {name: record.describe.get(name) for name in members}
    job["InstanceType"] = record.describe["ResourceConfig"].get("InstanceType", "")
    wanted = [{key: rule.get(key) for key in ("RuleConfigurationName", "RuleParameters")} for rule in rules]
    (folder / "rules.json").write_text(json.dumps(wanted))
    (folder / "job.json").write_text(json.dumps(job))
    paths = {
        "tensors": tensors,
        "profiler": profiler,
        "rules": folder / "rules.json",
        "job": folder / "job.json",
        "output": output,
    }
    return [text for name, path in paths.items() for text in (f"--{name}", str(path))]


def _begin(platform: Platform, job: str, names: list[str]) -> None:
    def change(record: Record) -> None:
        record.describe.setdefault("ProcessingStartTime", time.time())

    for evaluation in platform.store.list(KIND, parent=job, status="InProgress"):
        if evaluation.internal[RULE] in names:
            platform.store.update(KIND, evaluation.name, change)


def _any_wanted(platform: Platform, job: str, names: list[str]) -> bool:
    """Whether one of these rules has not been stopped meanwhile."""
    record = platform.store.get(_TRAINING, job)
    return record is not None and any(
        status["RuleConfigurationName"] in names for _, status in _pending(record.describe)
    )


def _log(platform: Platform, job: Record, names: list[str], lines: list[str], last: list[str]) -> list[str]:
    """What the evaluator printed, into the stream of each of its evaluations; returns its last lines."""
    if lines:
        for evaluation in platform.store.list(KIND, parent=job.name, status="InProgress"):
            if evaluation.internal[RULE] in names:
                stream = f"{evaluation.name}/{_HOST}-{int(evaluation.created)}"
                platform.logs.put(logs.PROCESSING_JOBS, stream, lines)
    return [*last, *lines][-5:]


def _verdict(output: Path, rule: Rule, problems: dict[str, str]) -> dict[str, str]:
    name = rule["RuleConfigurationName"]
    path = output / name / "verdict.json"
    if name in problems:
        return {"RuleEvaluationStatus": "Error", "StatusDetails": problems[name][:_DETAILS_LIMIT]}
    try:
        verdict = json.loads(path.read_text())
        status = str(verdict["RuleEvaluationStatus"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"RuleEvaluationStatus": "Error", "StatusDetails": f"InternalServerError: no verdict: {error!r}"}
    details = str(verdict.get("StatusDetails", ""))[:_DETAILS_LIMIT]
    return {"RuleEvaluationStatus": status, **({"StatusDetails": details} if details else {})}


def _upload(platform: Platform, record: Record, rule: Rule, output: Path) -> None:
    name = rule["RuleConfigurationName"]
    s3.Mirror(platform.objects, output / name, s3.join(_target(record, rule), name)).sync()


def _target(record: Record, rule: Rule) -> str:
    return s3.join(
        rule.get("S3OutputPath") or record.describe["OutputDataConfig"]["S3OutputPath"], record.name, "rule-output"
    )


def _publish(platform: Platform, job: str, verdicts: dict[str, dict[str, str]]) -> None:
    """Write verdicts over what is InProgress, in the training job and in the processing jobs at once."""
    now = time.time()

    def change(record: Record) -> None:
        for _, status in _pending(record.describe):
            if verdict := verdicts.get(status["RuleConfigurationName"]):
                status.update(verdict, LastModifiedTime=now)
                name = _evaluation(status)
                if platform.store.get(KIND, name) is not None:
                    platform.store.update(KIND, name, lambda record, verdict=verdict: _end(record, verdict, now))  # type: ignore[misc]

    platform.store.update(_TRAINING, job, change)


def _end(evaluation: Record, verdict: dict[str, str], now: float) -> None:
    """A condition that was met is no failure of the processing job: its details are the exit message."""
    status, details = verdict["RuleEvaluationStatus"], verdict.get("StatusDetails")
    ended = {"Error": "Failed", "Stopped": "Stopped"}.get(status, "Completed")
    evaluation.describe |= {"ProcessingJobStatus": ended, "ProcessingEndTime": now}
    if details:
        evaluation.describe["FailureReason" if ended == "Failed" else "ExitMessage"] = details


def _pending(describe: dict[str, Any]) -> list[tuple[Rule, Status]]:
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


def _describe(record: Record, rule: Rule, status: Status, name: str) -> dict[str, Any]:
    output = {"S3Uri": _target(record, rule), "LocalPath": _LOCAL_PATH, "S3UploadMode": "Continuous"}
    cluster = {
        "InstanceCount": 1,
        "InstanceType": rule.get("InstanceType", _INSTANCE_TYPE),
        "VolumeSizeInGB": rule.get("VolumeSizeInGB") or _VOLUME_GB,
    }
    now = record.describe["CreationTime"]
    return {
        "ProcessingJobName": name,
        "ProcessingJobArn": status["RuleEvaluationJobArn"],
        "TrainingJobArn": record.describe["TrainingJobArn"],
        "ProcessingJobStatus": "InProgress",
        "AppSpecification": {"ImageUri": rule["RuleEvaluatorImage"]},
        "Environment": rule.get("RuleParameters", {}),
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "rule", "S3Output": output, "AppManaged": False}]},
        "ProcessingResources": {"ClusterConfig": cluster},
        "RoleArn": record.describe["RoleArn"],
        "StoppingCondition": {"MaxRuntimeInSeconds": int(TIMEOUT_S)},
        "CreationTime": now,
        "LastModifiedTime": now,
    }


def _part(name: str) -> str:
    """What of a name goes into a processing job's: letters and digits, with single hyphens between them."""
    words = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name[:26])
    return "-".join(word for word in words.split("-") if word) or "rule"
