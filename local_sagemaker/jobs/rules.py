"""Debugger rules: each status is a record of its own life, the evaluator is one process for all rules of a job."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

from local_sagemaker import s3
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
KIND = "processing-job"

# A rule that never ends would keep the DAG waiting for ever.
TIMEOUT_S = 1800.0


def initial_statuses(settings: Settings, job: str, rules: list[dict[str, Any]], now: float) -> list[dict[str, Any]]:
    """InProgress entries, one per rule, each with the name of the processing job that evaluates it."""
    statuses = []
    for rule in rules:
        name = rule["RuleConfigurationName"]
        evaluation = f"{job[:26]}-{name[:26].lower()}-{uuid.uuid4().hex[:8]}"
        statuses.append(
            {
                "RuleConfigurationName": name,
                "RuleEvaluationJobArn": settings.arn(KIND, evaluation),
                "RuleEvaluationStatus": "InProgress",
                "LastModifiedTime": now,
            }
        )
    return statuses


def pending(describe: dict[str, Any]) -> bool:
    return any(
        status["RuleEvaluationStatus"] == "InProgress" for _, member in MEMBERS for status in describe.get(member, [])
    )


def evaluate(platform: Platform, job: str, tensors: Path, profiler: Path) -> None:
    """Evaluate all rules of an ended job, upload what they wrote, and set every status to a terminal one."""
    record = platform.store.get("training-job", job)
    if record is None or not pending(record.describe):
        return
    rules = [rule for request, _ in MEMBERS for rule in record.describe.get(request, [])]
    output = platform.folder("training-job", job) / "rule-output"
    by_image: dict[str, list[dict[str, Any]]] = {}
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
    rules: list[dict[str, Any]],
    tensors: Path,
    profiler: Path,
    output: Path,
) -> str | None:
    """Run the evaluator over some rules; returns what went wrong, if anything."""
    folder = platform.folder("training-job", record.name) / "rules"
    folder.mkdir(parents=True, exist_ok=True)
    members = ("TrainingJobName", "CreationTime", "TrainingStartTime", "TrainingEndTime", "HyperParameters")
    job = {name: record.describe.get(name) for name in members}
    job["InstanceType"] = record.describe["ResourceConfig"]["InstanceType"]
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
    arguments = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    process = JobProcess.start(
        [image.interpreter, *(image.rules or ()), *arguments],
        environment=process_environment(image.interpreter, folder, num_threads=1),
        cwd=folder,
        folder=folder,
        nice=cores.NICE_TRAINING,
    )
    deadline = time.monotonic() + TIMEOUT_S
    code = None
    while code is None and time.monotonic() < deadline and not platform.background.shutdown.is_set():
        code = process.wait(0.2)
    process.kill()
    lines = OutputTail(output_path(folder)).lines(final=True)
    platform.logs.put(logs.PROCESSING_JOBS, f"{record.name}/rules", lines)
    if code is None:
        return f"InternalServerError: rule evaluation did not end within {TIMEOUT_S:.0f} s"
    if code != 0:
        return f"InternalServerError: rule evaluator ended with exit code {code}: {' '.join(lines[-5:])}"
    return None


def _verdict(output: Path, rule: dict[str, Any], problems: dict[str, str]) -> dict[str, str]:
    name = rule["RuleConfigurationName"]
    path = output / name / "verdict.json"
    if name in problems:
        return {"RuleEvaluationStatus": "Error", "StatusDetails": problems[name][:1024]}
    try:
        verdict = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        return {"RuleEvaluationStatus": "Error", "StatusDetails": f"InternalServerError: no verdict: {error}"}
    details = str(verdict.get("StatusDetails", ""))[:1024]
    return {"RuleEvaluationStatus": verdict["RuleEvaluationStatus"], **({"StatusDetails": details} if details else {})}


def _upload(platform: Platform, record: Record, rule: dict[str, Any], output: Path) -> None:
    target = rule.get("S3OutputPath") or record.describe["OutputDataConfig"]["S3OutputPath"]
    name = rule["RuleConfigurationName"]
    s3.Mirror(platform.objects, output / name, s3.join(target, record.name, "rule-output", name)).sync()


def _publish(platform: Platform, job: str, verdicts: dict[str, dict[str, str]]) -> None:
    def change(record: Record) -> None:
        for _, member in MEMBERS:
            for status in record.describe.get(member, []):
                status.update(verdicts[status["RuleConfigurationName"]], LastModifiedTime=time.time())

    platform.store.update("training-job", job, change)
