"""The sub-rules of SageMaker's ProfilerReport that judge a training loop: its steps and the time in their phases.

Each takes (usage, timeline, job, limits) and returns (times triggered, violations, details, data points), by the
algorithm of AWS's open-sourced rule of its name; where it goes further, its docstring says so. `timeline` is what
timeline.read_timeline returns; without framework metrics a rule has nothing to say and its details are empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from profiler.phases import BACKWARDS, FORWARDS, STEP, WAITING, WORKER
from profiler.system_rules import WINDOW_S, rounded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from profiler.step_timeline import Spans, Timeline
    from profiler.system_rules import Found, Job, Limits, Usage

MIN_STEPS = 100  # fewer have no meaningful spread
BINS = 100
DATALOADER_PATIENCE_S = 10  # seconds with loading before loaders are counted
WAITING_MATTERS = 0.1  # share of the training time; below it the number of loaders is of no consequence
MIN_WAIT_S = 1.0  # a training that waited less in all is not starved


def step_outlier(usage: Usage, timeline: Timeline, job: Job, limits: Limits) -> Found:
    """More than `n_outliers` steps of a process above mean + `stddev` standard deviations, of more than 100 steps.

    `mode`: only steps of this mode ("TRAIN", "EVAL" or the phase's whole name). Details hold one entry for each process
    as AWS's files do: that of its training steps, or where only other steps have outliers enough, of those.
    """
    details: dict[str, Any] = {}
    triggered = violations = datapoints = 0
    for process, phases in timeline.processes.items():
        for phase in timeline.step_phases:
            if phase not in phases or limits["mode"] not in (None, phase, phase.removeprefix(STEP)):
                continue
            spans = phases[phase]
            datapoints += len(spans)
            if len(spans) <= MIN_STEPS:
                continue
            bar = spans.seconds.mean() + limits["stddev"] * spans.seconds.std()
            outliers = spans.seconds > bar
            found = int(outliers.sum()) > limits["n_outliers"]
            if found:
                triggered += 1
                violations += int(outliers.sum())
            if found or process not in details:
                details.setdefault(process, step_statistics(phase, spans, outliers))
    return triggered, violations, {"step_details": details}, datapoints


def step_statistics(phase: str, spans: Spans, outliers: NDArray[np.bool_]) -> dict[str, Any]:
    """Durations in seconds; the histogram leaves the outliers out, else they would leave it one bar wide."""
    counts, edges = np.histogram(spans.seconds[~outliers], bins=BINS)
    quantiles = {"max": 1, "p99": 0.99, "p95": 0.95, "p50": 0.5, "min": 0}
    statistics = {name: float(np.quantile(spans.seconds, q)) for name, q in quantiles.items()}
    return {
        "step_stats": {"mean": float(spans.seconds.mean()), **statistics},
        "number_of_outliers": int(outliers.sum()),
        "phase": phase,
        "stddev": float(spans.seconds.std()),
        "probs": counts.tolist(),
        "binedges": edges.tolist(),
        "step_numbers": [str(number) for number in spans.step[outliers]],
    }


def max_initialization_time(usage: Usage, timeline: Timeline, job: Job, limits: Limits) -> Found:
    """No step in the first `threshold` minutes: counted are the minutes after them until the first step.

    Without framework metrics nothing is known of steps, and AWS's rule, which then calls every job of 20 minutes slow,
    is not followed. A loop that recorded its start but never made a step is judged by the end of the job.
    """
    begin, end = job.get("TrainingStartTime"), job.get("TrainingEndTime")
    details: dict[str, Any] = {"step_num": {}, "job_start": begin, "job_end": end}
    if not timeline:
        return 0, 0, details, 0
    times = [sample.time for samples in usage.values() for sample in (samples[0], samples[-1])]
    begin, end = begin or min(times, default=None), end or max(times, default=None)
    first = end
    if timeline.extent:
        first, last = timeline.extent
        details["step_num"] = {"first": int(first * 1e6), "last": int(last * 1e6)}
    late_s = first - begin - 60 * limits["threshold"] if first and begin else 0
    late = int(np.ceil(late_s / WINDOW_S)) if late_s > 0 else 0
    return late, late, details, sum(len(spans) for spans in timeline.all(*timeline.step_phases))


def dataloader(usage: Usage, timeline: Timeline, job: Job, limits: Limits) -> Found:
    """Too few or too many loaders for the machine's cores, or a training that waits for its data.

    Loaders are counted each second (distinct processes times the threads each has) and the median compared with
    `min_threshold` and `max_threshold` percent of the cores. Beyond AWS's rule: too few only counts where steps wait at
    all, data in memory need no loader, and steps that wait for data more than `starved_threshold` percent of their time
    are a violation however many loaders there are.
    """
    spans = timeline.all(WORKER, WAITING)
    if not spans:
        return 0, 0, {}, 0
    cores = sum(len({core for sample in samples for core in sample.cpu}) for samples in usage.values())
    loaders, seconds = parallel_loaders(spans, timeline.loaders)
    times = np.concatenate([found.seconds for found in spans])
    share = timeline.waiting_share
    details: dict[str, Any] = {"pin_memory": timeline.pin_memory, "num_workers": timeline.loaders, "cores": cores}
    details |= {"dataloaders": loaders, "dataloading_time": loading_times(times)}
    if share is not None:
        details["waiting_percent"] = rounded(100 * share)
    judged = seconds > DATALOADER_PATIENCE_S and timeline.loaders != 0 and cores > 0
    few = judged and 100 * loaders < limits["min_threshold"] * cores and (share is None or share >= WAITING_MATTERS)
    many = judged and 100 * loaders > limits["max_threshold"] * cores
    violations = int(few) + int(many) + int(starved(timeline, limits["starved_threshold"]))
    return int(violations > 0), violations, details, len(times)


def starved(timeline: Timeline, threshold: float) -> bool:
    share = timeline.waiting_share
    return share is not None and 100 * share > threshold and (timeline.waiting_seconds or 0.0) > MIN_WAIT_S


def parallel_loaders(spans: Sequence[Spans], threads: int | None) -> tuple[int, int]:
    """(median number of loaders at work in a second, in how many seconds there were any)"""
    seen = np.concatenate([np.stack([found.start.astype(np.int64), found.pid]) for found in spans], axis=1)
    distinct = np.unique(seen, axis=1)
    _, processes = np.unique(distinct[0], return_counts=True)
    return int(np.median(processes * (threads or 1))), len(processes)


def loading_times(seconds: NDArray[np.float64]) -> dict[str, Any]:
    counts, edges = np.histogram(seconds, bins=BINS)
    quantiles = {name: float(np.quantile(seconds, q)) for name, q in (("p25", 0.25), ("p50", 0.5), ("p95", 0.95))}
    return {**quantiles, "probs": counts.tolist(), "binedges": edges.tolist()}


def overall_framework_metrics(usage: Usage, timeline: Timeline, job: Job, limits: Limits) -> Found:
    """Percent of time by step and by phase; never triggers. CPU and GPU operators are in the trace, not here."""
    details: dict[str, Any] = {"ratio": {}, "phase": {}, "phase_time": {}}
    steps = {name: timeline.seconds(name) for name in timeline.step_phases}
    if steps:
        extents = [found for found in map(extent_of_steps, timeline.processes.values()) if found]
        steps["others"] = max(0.0, sum(extents) - sum(steps.values()))
        details["phase"] = percent(steps)
        details["phase_time"] = {name: rounded(seconds) for name, seconds in steps.items()}
    passes = {"Forward pass": timeline.seconds(*FORWARDS), "Backward pass": timeline.seconds(*BACKWARDS)}
    if all(passes.values()):
        details["forward_backward"] = percent(passes)
    phases = {name for found in timeline.processes.values() for name in found if not name.startswith(STEP)}
    general = {name: timeline.seconds(name) for name in sorted(phases)}
    if any(general.values()):
        details["general"] = percent(general)
    return 0, 0, details, sum(len(spans) for found in timeline.processes.values() for spans in found.values())


def extent_of_steps(phases: Mapping[str, Spans]) -> float:
    steps = [spans for name, spans in phases.items() if name.startswith(STEP)]
    return max(s.end.max() for s in steps) - min(s.start[0] for s in steps) if steps else 0.0


def percent(seconds: Mapping[str, float]) -> dict[str, float]:
    total = sum(seconds.values())
    return {name: rounded(100 * value / total) if total else 0.0 for name, value in seconds.items()}
