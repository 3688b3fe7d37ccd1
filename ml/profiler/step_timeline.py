"""What the training loop told of its steps: framework metric files -> spans of time by process and phase.

Reads what step_times.py writes, and what smdebug writes of training loops of others: Chrome traces below
`<profiler-output>/framework/pevents`, one file per rotation and process.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from profiler.phases import LOADER, STEP, TRAIN, WAITING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

FILE = re.compile(r"\d+_(?:(?P<pid>\d+)-)?(?P<node>algo-\d+)_(?:python|model_)timeline\.json")


@dataclass
class Spans:
    """Stretches of time of one phase in one process, in order of their start; arrays of equal length."""

    start: NDArray[np.float64]  # seconds since the epoch
    seconds: NDArray[np.float64]
    step: NDArray[np.int64]  # the number of the step, -1 where none was told
    pid: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def end(self) -> NDArray[np.float64]:
        ends: NDArray[np.float64] = self.start + self.seconds
        return ends


@dataclass
class Timeline:
    """The processes of a training, each with its phases. Empty, and false, without framework metrics."""

    processes: dict[str, dict[str, Spans]] = field(default_factory=dict)  # "algo-1-<pid>" -> phase -> Spans
    loaders: int | None = None  # threads or processes that load data for each process; 0: data are in memory
    pin_memory: bool | None = None

    def __bool__(self) -> bool:
        return bool(self.processes)

    def all(self, *phases: str) -> list[Spans]:
        """The Spans of these phases, one for each process and phase that has some."""
        return [found[phase] for found in self.processes.values() for phase in phases if phase in found]

    def seconds(self, *phases: str) -> float:
        """Their time in all processes together."""
        return float(sum(spans.seconds.sum() for spans in self.all(*phases)))

    @property
    def step_phases(self) -> list[str]:
        """The modes that have steps, training first."""
        names = {name for found in self.processes.values() for name in found if name.startswith(STEP)}
        return sorted(names, key=lambda name: (name != TRAIN, name))

    @property
    def extent(self) -> tuple[float, float] | None:
        """(begin of the first step, end of the last) in seconds since the epoch; None without steps."""
        steps = self.all(*self.step_phases)
        return (min(s.start[0] for s in steps), max(s.end.max() for s in steps)) if steps else None

    @property
    def training_seconds(self) -> float:
        """How long training steps took, with the wait for their data, in all processes together."""
        waits = 0.0
        for phases in self.processes.values():
            if TRAIN in phases and WAITING in phases:
                outside = belong(phases, TRAIN) & ~inside(phases[WAITING], phases[TRAIN])
                waits += float(phases[WAITING].seconds[outside].sum())
        return self.seconds(TRAIN) + waits

    @property
    def waiting_seconds(self) -> float | None:
        """How long training steps waited for their data, in all processes together; None if it was not recorded."""
        waits = [
            float(phases[WAITING].seconds[belong(phases, TRAIN)].sum())
            for phases in self.processes.values()
            if TRAIN in phases and WAITING in phases
        ]
        return sum(waits) if waits else None

    @property
    def waiting_share(self) -> float | None:
        """The share (0 to 1) of training time that steps waited for their data; None if it was not recorded."""
        waiting, total = self.waiting_seconds, self.training_seconds
        return min(1.0, waiting / total) if waiting is not None and total else None


def belong(phases: Mapping[str, Spans], mode: str, phase: str = WAITING) -> NDArray[np.bool_]:
    """Which spans of a phase belong to the steps of one mode: those within such a step, or before one.

    smdebug's steps begin after the wait for their batch, ours with it.
    """
    spans, upcoming = phases[phase], {}
    for name, steps in phases.items():
        if name.startswith(STEP):
            upcoming[name] = np.append(steps.start, np.inf)[np.searchsorted(steps.end, spans.start, side="right")]
    before_all: NDArray[np.bool_] = np.all([upcoming[mode] <= start for start in upcoming.values()], axis=0)
    belonging: NDArray[np.bool_] = before_all & np.isfinite(upcoming[mode])
    return belonging


def inside(spans: Spans, steps: Spans) -> NDArray[np.bool_]:
    """Which of the `spans` begin within one of the `steps`."""
    position = np.searchsorted(steps.start, spans.start, side="right") - 1
    within: NDArray[np.bool_] = (position >= 0) & (spans.start < steps.end[np.maximum(position, 0)])
    return within


def read_timeline(folder: Path | str) -> Timeline:
    """The Timeline of a profiler-output folder. Files that cannot be read, or were cut short, are skipped."""
    rows: defaultdict[tuple[str, str], list[NDArray[np.float64]]] = defaultdict(list)
    timeline = Timeline()
    for path in sorted(Path(folder).glob("framework/pevents/*/*.json")):
        match = FILE.fullmatch(path.name)
        if not match:
            continue
        try:
            events = json.loads(path.read_text(encoding="utf-8"))
            process = "-".join(filter(None, (match["node"], match["pid"])))
            timeline.processes.setdefault(process, {})
            for phase, found in collect(events, timeline).items():
                rows[process, phase].append(np.array(found, dtype=np.float64))  # a fifth of the memory of tuples
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    for (process, phase), tables in rows.items():
        timeline.processes[process][phase] = spans_of(tables)
    return timeline


def collect(events: Iterable[Mapping[str, Any]], timeline: Timeline) -> dict[str, list[tuple[float, float, int, int]]]:
    """phase -> [(start µs, µs, step, pid)] of one file."""
    rows: defaultdict[str, list[tuple[float, float, int, int]]] = defaultdict(list)
    base, names = 0, {}
    for event in events:
        arguments = event.get("args") or {}
        if event["ph"] == "M":
            base = arguments.get("start_time_since_epoch_in_micros", base)
            if event["name"] == "process_name" and "name" in arguments:
                names[event["pid"]] = arguments["name"]
        elif event["ph"] == "X":
            phase = event["name"] if event["name"].startswith(STEP) else names.get(event["pid"], event["name"])
            number, pid = int(arguments.get("step_num", -1)), int(arguments.get("pid", 0))
            if math.isfinite(event["ts"]) and math.isfinite(event["dur"]):
                rows[phase].append((base + event["ts"], event["dur"], number, pid))
            if phase == LOADER and "num_workers" in arguments:
                timeline.loaders = max(timeline.loaders or 0, int(arguments["num_workers"]))
                timeline.pin_memory = bool(arguments.get("pin_memory"))
    return rows


def spans_of(tables: Sequence[NDArray[np.float64]]) -> Spans:
    table = np.concatenate(tables)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return Spans(table[:, 0] / 1e6, np.maximum(table[:, 1], 0) / 1e6, table[:, 2].astype(int), table[:, 3].astype(int))
