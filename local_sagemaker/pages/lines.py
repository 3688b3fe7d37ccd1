"""What a page says about one record of each kind, as text."""

from __future__ import annotations

import dataclasses
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from local_sagemaker.hosting import served_model
from local_sagemaker.hosting.deployment import KIND as ENDPOINT
from local_sagemaker.jobs import processing_job, training_job
from local_sagemaker.pages.html import Html, tag
from local_sagemaker.state import logs
from local_sagemaker.state.logs import Logs
from local_sagemaker.state.store import Record
from local_sagemaker.transform import transform_job
from local_sagemaker.tuning import tuning_job

BUSY = ("InProgress", "Stopping", "Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_GOOD = ("Completed", "InService", "Approved")
_BAD = ("Failed", "OutOfService", "UpdateRollbackFailed", "Rejected")

_MAX_METRICS = 3
_HIDDEN = "(not shown; the Describe call has it)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    name: str
    """Of the records in the store."""
    title: str
    singular: str
    group: str | None = None
    """The log group of its jobs' streams, which begin with the job's name."""

    def log(self, store: Logs, record: Record, count: int) -> list[str]:
        if self.name == ENDPOINT:
            return store.tail(f"{logs.ENDPOINTS}/{record.name}", "", count)
        if not self.group:
            return []
        # What its hosts printed; what the platform says beside it, only while they have not printed anything.
        printed = store.tail(self.group, f"{record.name}/algo-", count)
        return printed or store.tail(self.group, f"{record.name}/", count)


#: The word in a page's address → what is there, in the order of the index.
KINDS = {
    "endpoint": Kind(name=ENDPOINT, title="Endpoints", singular="Endpoint"),
    "tuning": Kind(name=tuning_job.KIND, title="Tuning jobs", singular="Tuning job"),
    "training": Kind(name=training_job.KIND, title="Training jobs", singular="Training job", group=logs.TRAINING_JOBS),
    "processing": Kind(
        name=processing_job.KIND, title="Processing jobs", singular="Processing job", group=logs.PROCESSING_JOBS
    ),
    "transform": Kind(
        name=transform_job.KIND, title="Transform jobs", singular="Transform job", group=logs.TRANSFORM_JOBS
    ),
    "package": Kind(name="model-package", title="Model packages", singular="Model package"),
    "model": Kind(name="model", title="Models", singular="Model"),
}


def is_busy(record: Record) -> bool:
    return record.status in BUSY


def status(record: Record) -> Html:
    said = record.status or "-"
    look = "good" if said in _GOOD else "bad" if said in _BAD else "busy" if said in BUSY else ""
    return tag("span", said, class_=f"status {look}".strip())


def detail(record: Record) -> str:
    """The one thing to know about it."""
    return _DETAILS[record.kind](record)


def facts(record: Record) -> list[tuple[str, str]]:
    """What is worth a line of its own on the record's page, of what its Describe answer has."""
    describe = record.describe
    resources = describe.get("ResourceConfig") or describe.get("TransformResources") or {}
    resources = resources or describe.get("ProcessingResources", {}).get("ClusterConfig", {})
    pairs = {
        "created": moment(record.created),
        "duration": duration(record),
        "billable": f"{describe['BillableTimeInSeconds']} s" if "BillableTimeInSeconds" in describe else "",
        "instances": f"{resources.get('InstanceCount', 1)} x {resources['InstanceType']}"
        if "InstanceType" in resources
        else "",
        "image": describe.get("AlgorithmSpecification", {}).get("TrainingImage", "")
        or describe.get("AppSpecification", {}).get("ImageUri", "")
        or (served_model.container_of(describe).get("Image", "") if record.kind == served_model.MODEL else ""),
        "model": describe.get("ModelName", "") if record.kind != "model" else "",
        "configuration": describe.get("EndpointConfigName", ""),
        "output": describe.get("ModelArtifacts", {}).get("S3ModelArtifacts", "")
        or describe.get("TransformOutput", {}).get("S3OutputPath", ""),
        "tuned by": str(describe.get("TuningJobArn", "")).rpartition("/")[2],
        "rules": ", ".join(
            f"{rule['RuleConfigurationName']} {rule.get('RuleEvaluationStatus', '')}"
            for rule in describe.get("DebugRuleEvaluationStatuses", [])
        ),
    }
    return [(name, str(value)) for name, value in pairs.items() if value]


def without_secrets(value: Any) -> Any:
    """A Describe answer in which no environment has values."""
    match value:
        case dict():
            return {
                name: dict.fromkeys(item, _HIDDEN)
                if name == "Environment" and isinstance(item, dict)
                else without_secrets(item)
                for name, item in value.items()
            }
        case list():
            return [without_secrets(item) for item in value]
    return value


def _training(record: Record) -> str:
    if record.status not in ("Completed", "Stopped"):
        return str(record.describe.get("FailureReason", record.describe.get("SecondaryStatus", "")))[:160]
    # What was measured on held-out data says most.
    metrics = sorted(record.describe.get("FinalMetricDataList", []), key=lambda item: "val" not in item["MetricName"])
    return " · ".join(f"{item['MetricName']} {item['Value']:.4g}" for item in metrics[:_MAX_METRICS])


def _tuning(record: Record) -> str:
    describe, said = record.describe, []
    if best := describe.get("BestTrainingJob"):
        metric = best.get("FinalHyperParameterTuningJobObjectiveMetric", {})
        said.append(f"best {metric.get('MetricName')} {metric.get('Value', 0):.4g} by {best.get('TrainingJobName')}")
    counters = describe.get("TrainingJobStatusCounters", {})
    most = describe["HyperParameterTuningJobConfig"].get("ResourceLimits", {}).get("MaxNumberOfTrainingJobs", "?")
    said.append(f"{counters.get('Completed', 0)} of {most} completed")
    said += [
        f"{counters[name]} {word}"
        for name, word in (("InProgress", "running"), ("NonRetryableError", "failed"), ("Stopped", "stopped"))
        if counters.get(name)
    ]
    return " · ".join(said)


def _endpoint(record: Record) -> str:
    variants = record.describe.get("ProductionVariants", [])
    total = sum(variant.get("CurrentWeight", 0) for variant in variants) or 1
    shares = ", ".join(f"{item['VariantName']} {item.get('CurrentWeight', 0) / total:.0%}" for item in variants)
    serves = f"{record.describe.get('EndpointConfigName')}: {shares}"
    if pending := record.describe.get("PendingDeploymentSummary"):
        serves += f" → {pending.get('EndpointConfigName')}"
    return serves


def _processing(record: Record) -> str:
    app = record.describe.get("AppSpecification", {})
    said = " ".join([*app.get("ContainerEntrypoint", []), *app.get("ContainerArguments", [])])
    return str(record.describe.get("FailureReason") or record.describe.get("ExitMessage") or said)[:160]


def _transform(record: Record) -> str:
    return str(record.describe.get("FailureReason") or f"model {record.describe.get('ModelName', '')}")[:160]


def _package(record: Record) -> str:
    return str(record.describe.get("ModelPackageDescription") or record.describe.get("ApprovalDescription") or "")[:160]


def _model(record: Record) -> str:
    return str(served_model.container_of(record.describe).get("ModelDataUrl", ""))


_DETAILS: dict[str, Callable[[Record], str]] = {
    training_job.KIND: _training,
    tuning_job.KIND: _tuning,
    ENDPOINT: _endpoint,
    processing_job.KIND: _processing,
    transform_job.KIND: _transform,
    "model-package": _package,
    "model": _model,
}


def duration(record: Record) -> str:
    """Of a job: how long it ran, or has been running."""
    describe: dict[str, Any] = record.describe
    if record.kind in (ENDPOINT, "model", "model-package"):
        return ""
    starts = [describe[name] for name in describe if name.endswith("StartTime")]
    ends = [describe[name] for name in describe if name.endswith("EndTime")]
    if not ends and record.status not in BUSY:
        return ""
    return _span((ends[0] if ends else time.time()) - (starts[0] if starts else record.created))


def ago(moment_s: float) -> str:
    return f"{_span(time.time() - moment_s)} ago"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def moment(moment_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment_s))


def quoted(name: str) -> str:
    """A name as part of an address; a model package's has a slash in it."""
    return urllib.parse.quote(name)
