"""SageMaker's ProfilerReport: eleven sub-rules over what a job's profiler recorded, each a dict as in AWS's files.

The algorithms and defaults are those of AWS's open-sourced rules, system_rules.py for the machine and step_rules.py
for the training loop. A sub-rule's limits can be set by rule parameters named `<SubRule>_<parameter>`; a sub-rule that
is a rule of its own takes them without the prefix.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from profiler import step_rules, system_rules
from profiler.step_timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from profiler.system_rules import Found, Job, Limits, Usage

DEFAULTS: dict[str, dict[str, float | None]] = {
    "CPUBottleneck": {"threshold": 50, "cpu_threshold": 90, "gpu_threshold": 10, "patience": 1000},
    "IOBottleneck": {"threshold": 50, "io_threshold": 50, "gpu_threshold": 10, "patience": 1000},
    "LowGPUUtilization": {"threshold_p95": 70, "threshold_p5": 10, "window": 500, "patience": 1000},
    "StepOutlier": {"threshold": 3, "mode": None, "n_outliers": 10, "stddev": 3},
    "GPUMemoryIncrease": {"increase": 5, "patience": 1000, "window": 10},
    "BatchSize": {
        "cpu_threshold_p95": 70,
        "gpu_threshold_p95": 70,
        "gpu_memory_threshold_p95": 70,
        "patience": 1000,
        "window": 500,
    },
    "MaxInitializationTime": {"threshold": 20},
    "LoadBalancing": {"threshold": 0.2, "patience": 1000},
    "OverallSystemUsage": {},
    # The third is ours: percent of the training time that steps wait for data.
    "Dataloader": {"min_threshold": 70, "max_threshold": 200, "starved_threshold": 30},
    "OverallFrameworkMetrics": {},
}
SUB_RULES: dict[str, Callable[[Usage, Timeline, Job, Limits], Found]] = {
    "CPUBottleneck": system_rules.cpu_bottleneck,
    "IOBottleneck": system_rules.io_bottleneck,
    "LowGPUUtilization": system_rules.low_gpu_utilization,
    "StepOutlier": step_rules.step_outlier,
    "GPUMemoryIncrease": system_rules.gpu_memory_increase,
    "BatchSize": system_rules.batch_size,
    "MaxInitializationTime": step_rules.max_initialization_time,
    "LoadBalancing": system_rules.load_balancing,
    "OverallSystemUsage": system_rules.overall_system_usage,
    "Dataloader": step_rules.dataloader,
    "OverallFrameworkMetrics": step_rules.overall_framework_metrics,
}


def profile(
    usage: Usage, job: Mapping[str, Any], parameters: Mapping[str, str], timeline: Timeline | None = None
) -> dict[str, dict[str, Any]]:
    """Every sub-rule's report. `usage` from read_usage, `job` from job.json, `parameters` the rule's strings.

    Raises ValueError for a parameter that is no number.
    """
    return {
        name: judge(name, usage, job, {key: parameters.get(f"{name}_{key}") for key in defaults}, timeline)
        for name, defaults in DEFAULTS.items()
    }


def judge(
    name: str,
    usage: Usage,
    job: Mapping[str, Any],
    parameters: Mapping[str, str | None],
    timeline: Timeline | None = None,
) -> dict[str, Any]:
    """The report of one sub-rule; `parameters` without its name before them."""
    limits = {key: limit(name, key, parameters.get(key)) for key in DEFAULTS[name]}
    timeline = Timeline() if timeline is None else timeline
    triggered, violations, details, datapoints = SUB_RULES[name](usage, timeline, job, limits)
    return {
        "RuleTriggered": int(triggered),
        "Violations": int(violations),
        "Details": details,
        "Datapoints": int(datapoints),
        "RuleParameters": "\n".join(f"{key}:{value}" for key, value in limits.items()),
    }


def limit(rule: str, key: str, text: str | None) -> float | str | None:
    default = DEFAULTS[rule][key]
    if text is None:
        return default
    if default is None:  # a word; SDKs write None as text
        return None if text == "None" else text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{rule}'s parameter {key} is {text!r}; it must be a number from 0 up (default {default})")
    return int(value) if value.is_integer() else value
