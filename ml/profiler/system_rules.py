"""The sub-rules of SageMaker's ProfilerReport that judge a machine: its cores, GPUs, memory, disk and network.

Each takes (usage, timeline, job, limits) and returns (times triggered, violations, details, data points), by the
algorithm of AWS's open-sourced rule of its name. `usage` is what usage.read_usage returns.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from typing import Any, SupportsFloat

    from numpy.typing import NDArray

    from profiler.step_timeline import Timeline
    from profiler.system_usage import Sample

    Usage = Mapping[str, Sequence[Sample]]  # node -> its samples
    Job = Mapping[str, Any]  # job.json
    Limits = Mapping[str, Any]  # numbers, but for a mode
    Found = tuple[int, int, dict[str, Any], int]  # times triggered, violations, details, data points

WINDOW_S = 60  # AWS rescans a job once a minute; "triggered" counts such windows


def bottleneck(usage: Usage, limits: Limits, sensor: str, high: float) -> Found:
    """Samples where some GPU idles while some core's `sensor` is above `high`."""
    idle_gpu, found, datapoints, triggered = 0, {}, 0, 0
    for samples in usage.values():
        for window in windows(samples):
            for sample in window:
                datapoints += 1
                low = sum(value < limits["gpu_threshold"] for value in sample.gpu.values())
                busy = sum(value > high for value in getattr(sample, sensor).values())
                idle_gpu += low > 0
                if low and busy:
                    found[f"{sample.time:.3f}"] = {"GPUs": low, "CPUs": busy}
            if datapoints > limits["patience"] and 100 * len(found) / datapoints > limits["threshold"]:
                triggered += 1
    return triggered, len(found), {"low_gpu_utilization": idle_gpu, "bottlenecks": found}, datapoints


def cpu_bottleneck(usage: Usage, timeline: Timeline, job: Job, limits: Limits) -> Found:
    return bottleneck(usage, limits, "cpu", limits["cpu_threshold"])


def io_bottleneck(usage: Usage, timeline: Timeline, job: Job, limits: Limits) -> Found:
    return bottleneck(usage, limits, "io_wait", limits["io_threshold"])


def low_gpu_utilization(usage: Usage, timeline: Timeline, job: Job, limits: Limits) -> Found:
    details: dict[str, Any] = {}
    violations = datapoints = 0
    for node, gpu, series in each_gpu(usage, "gpu"):
        for count in window_ends(usage[node], len(series)):
            datapoints = max(datapoints, count)
            recent = series[:count][-int(limits["window"]) :]
            p95, p5 = np.quantile(recent, 0.95), np.quantile(recent, 0.05)
            if count > limits["patience"] and (p95 < limits["threshold_p95"] or p5 < limits["threshold_p5"]):
                violations += 1
                entry = {"gpu_max": top(series[:count]), "gpu_95": rounded(p95), "gpu_5": rounded(p5)}
                details.setdefault(node, {})[gpu] = entry | box(series[:count])
    return violations, violations, details | last_timestamp(usage), datapoints


def gpu_memory_increase(usage: Usage, timeline: Timeline, job: Job, limits: Limits) -> Found:
    """The mean of a GPU's memory over `window` readings is more than `increase` above that of the window before."""
    details: dict[str, Any] = {}
    violations, datapoints, window = 0, 0, max(1, int(limits["window"]))
    for node, gpu, series in each_gpu(usage, "gpu_memory"):
        datapoints = max(datapoints, len(series))
        sums = np.concatenate([[0.0], np.cumsum(series)])
        means = (sums[window:] - sums[:-window]) / window  # of the readings [i, i + window)
        increases = means[window:] - means[:-window]  # known once 2 * window + i readings are
        counts = np.arange(2 * window, 2 * window + len(increases))
        found = np.flatnonzero((increases > limits["increase"]) & (counts > limits["patience"]))
        violations += len(found)
        if len(found):  # AWS rewrites the entry at each violation; the last one stays
            seen = series[: counts[found[-1]]]
            entry = {"increase": rounded(increases[found[-1]]), "gpu_max": top(seen)}
            details.setdefault(node, {})[gpu] = entry | {"p05": rounded(np.quantile(seen, 0.05))} | box(seen)
    return violations, violations, details | last_timestamp(usage), datapoints


def batch_size(usage: Usage, timeline: Timeline, job: Job, limits: Limits) -> Found:
    """CPU, GPU and GPU memory all far from full: a larger batch would fit."""
    details: dict[str, Any] = {}
    violations = datapoints = 0
    for node, gpu, series in each_gpu(usage, "gpu"):
        measured = [sample for sample in usage[node] if gpu in sample.gpu]
        # Cores may be read a moment before the GPU, into a sample of their own: the last known value holds on.
        cpu = held([mean(sample.cpu) for sample in usage[node]], [gpu in sample.gpu for sample in usage[node]])
        memory = np.array([sample.gpu_memory.get(gpu, 0.0) for sample in measured])
        for count in window_ends(usage[node], len(series)):
            datapoints = max(datapoints, count)
            if count <= max(limits["window"], limits["patience"]):
                continue
            full = {"cpu": cpu, "gpu": series, "gpu_memory": memory}
            recent = {
                name: np.quantile(values[:count][-int(limits["window"]) :], 0.95) for name, values in full.items()
            }
            if all(recent[name] < limits[f"{name}_threshold_p95"] for name in recent):
                violations += 1
                boxes = {"cpu": box(cpu[:count]), gpu: box(series[:count])}
                details.setdefault(node, {}).update(boxes | {f"{gpu}_memory": box(memory[:count])})
    return violations, violations, details | last_timestamp(usage), datapoints


def load_balancing(usage: Usage, timeline: Timeline, job: Job, limits: Limits) -> Found:
    details, violations, datapoints = {}, 0, 0
    for node, samples in usage.items():
        gpus = {gpu: series for owner, gpu, series in each_gpu(usage, "gpu") if owner == node}
        if not gpus:
            continue
        counts = {gpu: np.histogram(series, bins=np.arange(0, 100, 2))[0] for gpu, series in gpus.items()}
        distances: dict[str, dict[str, float]] = {}
        for one, other in combinations(counts, 2):
            distances.setdefault(one, {})[other] = distance = jensen_shannon(counts[one], counts[other])
            violations += distance > limits["threshold"] and len(samples) > limits["patience"]
        datapoints = max(datapoints, *(len(series) for series in gpus.values()))
        workloads = {gpu: [int(count) for count in found] for gpu, found in counts.items()}
        details[node] = {"workloads": workloads, "distances": distances}
    return violations, violations, details, datapoints


def overall_system_usage(usage: Usage, timeline: Timeline, job: Job, limits: Limits) -> Found:
    readings: dict[str, Callable[[Sample], float | None]] = {
        "Network": lambda sample: sum(sample.network.values()) if sample.network else None,
        "GPU": lambda sample: mean(sample.gpu),
        "CPU": lambda sample: mean(sample.cpu),
        "CPU memory": lambda sample: sample.memory,
        "GPU memory": lambda sample: mean(sample.gpu_memory),
        "I/O": lambda sample: mean(sample.io_wait),
    }
    details: dict[str, dict[str, dict[str, float]]] = {name: {} for name in readings}
    for node, samples in usage.items():
        for name, reading in readings.items():
            values = [value for value in map(reading, samples) if value is not None]
            if values:
                quantiles = {"max": 1, "p99": 0.99, "p95": 0.95, "p50": 0.5, "min": 0}
                details[name][node] = {label: rounded(np.quantile(values, q)) for label, q in quantiles.items()}
    return 0, 0, details, sum(len(samples) for samples in usage.values())


# Arithmetic that the sub-rules share.


def windows(samples: Sequence[Sample]) -> Collection[list[Sample]]:
    """The samples minute by minute."""
    groups: dict[int, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(int((sample.time - samples[0].time) // WINDOW_S), []).append(sample)
    return groups.values()


def window_ends(samples: Sequence[Sample], length: int) -> list[int]:
    """How many samples had been seen at the end of each minute, at most `length`."""
    seen = np.cumsum([len(window) for window in windows(samples)])
    return sorted({min(int(count), length) for count in seen})


def each_gpu(usage: Usage, sensor: str) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """(node, GPU, its readings) for every GPU that was measured."""
    for node, samples in usage.items():
        for gpu in sorted({gpu for sample in samples for gpu in getattr(sample, sensor)}):
            yield node, gpu, np.array([getattr(s, sensor)[gpu] for s in samples if gpu in getattr(s, sensor)])


def mean(readings: Mapping[str, float]) -> float | None:
    return sum(readings.values()) / len(readings) if readings else None


def held(values: Sequence[float | None], wanted: Sequence[bool]) -> NDArray[np.float64]:
    """The `wanted` of some values, each None replaced by the value before it (0 at the beginning)."""
    last, kept = 0.0, []
    for value, keep in zip(values, wanted, strict=True):
        last = last if value is None else value
        if keep:
            kept.append(last)
    return np.array(kept)


def box(values: NDArray[np.float64]) -> dict[str, float]:
    p25, p50, p75, p95 = np.quantile(values, [0.25, 0.5, 0.75, 0.95])
    reach = 1.5 * (p75 - p25)
    shape = {"p25": p25, "p50": p50, "p75": p75, "p95": p95}
    shape |= {"upper": min(p75 + reach, values.max()), "lower": max(p25 - reach, values.min())}
    return {name: rounded(value) for name, value in shape.items()}


def last_timestamp(usage: Usage) -> dict[str, int]:
    times = [samples[-1].time for samples in usage.values() if samples]
    return {"last_timestamp": int(max(times) * 1e6)} if times else {}


def jensen_shannon(counts: NDArray[np.intp], other_counts: NDArray[np.intp]) -> float:
    p, q = counts / max(counts.sum(), 1), other_counts / max(other_counts.sum(), 1)
    middle = (p + q) / 2

    def divergence(share: NDArray[np.float64]) -> float:
        some = share > 0
        return float((share[some] * np.log(share[some] / middle[some])).sum())

    return float(np.sqrt(max(0.0, (divergence(p) + divergence(q)) / 2)))


def top(values: NDArray[np.float64]) -> float:
    return rounded(values.max())


def rounded(value: SupportsFloat) -> float:
    return round(float(value), 2)
