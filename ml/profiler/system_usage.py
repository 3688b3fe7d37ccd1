"""What the profiler measured of a job's machine: SageMaker's system metric files -> samples in order of time.

The files are `<profiler-output>/system/incremental/<hour>/<minute>.algo-1.json`, one JSON object per line. Beside them,
system_metrics.py's own: what the processes of the training were given of the processors.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

SAME_SAMPLE_S = 0.02  # readings closer than this belong to one sample
FILE = re.compile(r"\d{10}\.(algo-\d+)\.json")


@dataclass
class Sample:
    """One reading of every sensor of a node. Percent, except throughput (bytes/s) and iops (1/s)."""

    time: float  # epoch seconds
    cpu: dict[str, float] = field(default_factory=dict)  # core -> utilisation
    io_wait: dict[str, float] = field(default_factory=dict)  # core -> share of time spent waiting
    gpu: dict[str, float] = field(default_factory=dict)  # GPU -> utilisation
    gpu_memory: dict[str, float] = field(default_factory=dict)
    memory: float | None = None
    io: dict[str, float] = field(
        default_factory=dict
    )  # IOPS, ReadThroughputInBytesPerSecond, WriteThroughputInBytesPerSecond
    network: dict[str, float] = field(default_factory=dict)  # ReceiveBytesPerSecond, TransmitBytesPerSecond


def read_usage(folder: Path | str) -> dict[str, list[Sample]]:
    """node ("algo-1") -> its samples. Empty if there are no files; skipped are half-written lines, and NaN."""
    usage: defaultdict[str, list[Sample]] = defaultdict(list)
    for path in sorted(Path(folder).glob("system/incremental/*/*.json")):
        if FILE.fullmatch(path.name):
            readings = filter(None, map(parse, path.read_text(encoding="utf-8").splitlines()))
            add_samples(usage, sorted(readings, key=lambda reading: reading["Timestamp"]))
    return dict(sorted(usage.items()))


def parse(line: str) -> dict[str, Any] | None:
    try:
        reading: dict[str, Any] = json.loads(line)
        reading["NodeId"] + reading["Type"] + reading["Name"]  # texts, or an error
        reading["Timestamp"] = float(reading["Timestamp"])
        return reading if math.isfinite(reading["Timestamp"]) and math.isfinite(float(reading["Value"])) else None
    except (ValueError, KeyError, TypeError):
        return None


def add_samples(usage: defaultdict[str, list[Sample]], readings: Iterable[dict[str, Any]]) -> None:
    """One file's readings, in order of time; files follow each other in time too."""
    for reading in readings:
        samples = usage[reading["NodeId"]]
        if not samples or abs(reading["Timestamp"] - samples[-1].time) > SAME_SAMPLE_S:
            samples.append(Sample(reading["Timestamp"]))
        name = sys.intern(reading["Name"])  # one text for all, not one for each line
        place(samples[-1], reading["Type"], name, reading.get("Dimension") or "", float(reading["Value"]))


def place(sample: Sample, kind: str, name: str, dimension: str, value: float) -> None:
    if kind == "cpu":
        (sample.io_wait if dimension == "I/OWaitPercentage" else sample.cpu)[name] = value
    elif kind == "gpu":
        (sample.gpu_memory if dimension == "GPUMemoryUtilization" else sample.gpu)[name] = value
    elif kind == "memory":
        sample.memory = value
    elif kind == "i/o":
        sample.io[name] = max(0.0, value)
    elif kind == "network" and dimension != "Platform":  # what the platform itself moves is not the job's
        sample.network[name] = max(0.0, value)


@dataclass
class Share:
    """What a training's processes on one node were given of its processors, in seconds; None: not known."""

    seconds: float = 0.0  # of the process that was measured longest
    cores: int = 1  # that the processes may use
    used: float = 0.0  # by all of them
    waited: float | None = None  # by all threads: ready to run, while others ran
    busy: float | None = None  # by all processes of the machine, on those cores
    stolen: float | None = None  # of those cores, by other machines of the same host
    throttled: float | None = None  # that the container's limit held the processes back

    @property
    def waiting_share(self) -> float | None:
        """Of the time in which threads wanted to compute, how much they waited for a processor; None: not known."""
        wanted = self.used + (self.waited or 0.0)
        return self.waited / wanted if self.waited is not None and wanted > 0 else None


def read_shares(folder: Path | str) -> dict[str, Share]:
    """node -> its Share; empty where nothing was measured."""
    shares: dict[str, Share] = {}
    for path in sorted(Path(folder).glob("processor/*.json")):
        lines = list(filter(None, map(parse_share, path.read_text(encoding="utf-8").splitlines())))
        if not lines:
            continue
        names = set.intersection(*map(set, lines)) - {"NodeId"}
        total = {name: sum(line[name] for line in lines) for name in names}
        share = shares.setdefault(lines[0]["NodeId"], Share())
        share.used += total.get("Used", 0.0)
        if "Waited" in total:
            share.waited = (share.waited or 0.0) + total["Waited"]
        if total.get("Seconds", 0.0) > share.seconds:  # what is of the whole machine is the same to all processes
            share.seconds, share.cores = total["Seconds"], int(lines[-1]["Cores"])
            share.busy, share.stolen, share.throttled = (total.get(name) for name in ("Busy", "Stolen", "Throttled"))
    return shares


def parse_share(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
        numbers = {name: float(value) for name, value in found.items() if name not in ("NodeId", "Timestamp")}
        usable = all(map(math.isfinite, numbers.values())) and numbers["Cores"] and numbers["Seconds"] >= 0
        return {"NodeId": str(found["NodeId"])} | numbers if usable else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
