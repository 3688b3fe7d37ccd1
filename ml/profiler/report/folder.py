"""The folder of a ProfilerReport rule: profiler-output/ with the page, the notebook, the reports and their figures.

    profiler-output/profiler-report.html, profiler-report.ipynb, profiler-reports/<SubRule>.json      as AWS's
    profiler-output/steps.csv, system.csv                                            for the notebook, and for you

Each file appears whole or not at all, and all of them can be written again while the job runs.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from debugger.rules.verdicts import plain, write
from profiler.phases import BACKWARDS, FORWARDS, OPTIMIZER, PREPARING, STEP, WAITING
from profiler.report.notebook import notebook
from profiler.report.page import report_html
from profiler.rules import judge, profile
from profiler.step_timeline import Timeline, inside, read_timeline
from profiler.system_rules import mean
from profiler.system_usage import read_shares, read_usage
from recordings.notes import failures

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from profiler.step_timeline import Spans
    from profiler.system_rules import Job, Usage
    from profiler.system_usage import Share

COLUMNS = {
    "waiting": WAITING,
    "preparing": PREPARING,
    "forward": FORWARDS[0],
    "backward": BACKWARDS[0],
    "optimizer": OPTIMIZER,
}


class NothingRecorded(LookupError):
    """Neither system metrics nor step times: there is nothing to report on."""


@dataclass
class Recorded:
    """What a job's profiler recorded, read when it is asked for. `tensors_dir` may hold notes of the hook's failure."""

    profiler_dir: Path | str | None
    tensors_dir: Path | str | None = None

    @cached_property
    def usage(self) -> Usage:
        return read_usage(self.profiler_dir) if self.profiler_dir else {}

    @cached_property
    def shares(self) -> dict[str, Share]:
        return read_shares(self.profiler_dir) if self.profiler_dir else {}

    @cached_property
    def timeline(self) -> Timeline:
        return read_timeline(self.profiler_dir) if self.profiler_dir else Timeline()

    @cached_property
    def failures(self) -> list[dict[str, Any]]:
        local = [folder for folder in (self.profiler_dir, self.tensors_dir) if folder and "://" not in str(folder)]
        return failures(*local)

    def demand(self) -> None:
        """Raises NothingRecorded, with what is known of the reason."""
        if self.usage or self.timeline:
            return
        reasons = "".join(f"; {failure['complaint']}" for failure in self.failures)
        text = f"no system metrics and no step times were found; the job must run with its profiler enabled{reasons}"
        raise NothingRecorded(text)


def write_report(folder: Path, recorded: Recorded, job: Job, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Write profiler-output/ into `folder`; returns the evidence: what was triggered, and what it rests on.

    Raises NothingRecorded, and ValueError for a parameter that is no number.
    """
    recorded.demand()
    usage, timeline = recorded.usage, recorded.timeline
    reports = profile(usage, job, parameters, timeline)
    output = folder / "profiler-output"
    (output / "profiler-reports").mkdir(parents=True, exist_ok=True)
    for sub_rule, report in reports.items():
        write(output / "profiler-reports" / f"{sub_rule}.json", json.dumps(plain(report), allow_nan=False))
    write(output / "steps.csv", steps_csv(timeline))
    write(output / "system.csv", system_csv(usage))
    write(output / "profiler-report.ipynb", notebook(str(job.get("TrainingJobName", ""))))
    page = report_html(job, usage, reports, timeline, recorded.failures, recorded.shares)
    write(output / "profiler-report.html", page)
    return {
        "triggered": [sub_rule for sub_rule, report in reports.items() if report["RuleTriggered"]],
        "samples": sum(map(len, usage.values())),
        "steps": sum(len(spans) for spans in timeline.all(*timeline.step_phases)),
        "waited_for_processor": {
            node: round(share.waiting_share, 4)
            for node, share in recorded.shares.items()
            if share.waiting_share is not None
        },
        "not_recorded": [failure["complaint"] for failure in recorded.failures],
    }


def judge_alone(rule: str, recorded: Recorded, job: Job, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The report of a sub-rule that is a rule of its own. Raises as write_report does."""
    recorded.demand()
    report: dict[str, Any] = plain(judge(rule, recorded.usage, job, parameters, recorded.timeline))
    return report


def steps_csv(timeline: Timeline) -> str:
    """A row for each step: process, mode, number, begin (epoch seconds), seconds in all and in each phase."""
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["process", "mode", "step", "begin", "seconds", *COLUMNS])
    for process, phases in timeline.processes.items():
        for name in (name for name in timeline.step_phases if name in phases):
            steps = phases[name]
            parts = [in_steps(phases.get(phase), steps) for phase in COLUMNS.values()]
            for index in range(len(steps)):
                times = [f"{part[index]:.6f}" for part in parts]
                begin, seconds = f"{steps.start[index]:.6f}", f"{steps.seconds[index]:.6f}"
                table.writerow([process, name.removeprefix(STEP), steps.step[index], begin, seconds, *times])
    return rows.getvalue()


def in_steps(spans: Spans | None, steps: Spans) -> NDArray[np.float64]:
    """The seconds of the spans that begin within each step."""
    seconds = np.zeros(len(steps))
    if spans is not None:
        within = inside(spans, steps)
        places = steps.start.searchsorted(spans.start[within], side="right") - 1
        np.add.at(seconds, places, spans.seconds[within])
    return seconds


def system_csv(usage: Usage) -> str:
    """A row for each reading: node, time (epoch seconds), means over cores and GPUs in percent, bytes a second."""
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["node", "time", "cpu", "io_wait", "memory", "gpu", "gpu_memory", "disk", "network"])
    for node, samples in usage.items():
        for sample in samples:
            disk = {name: value for name, value in sample.io.items() if name != "IOPS"}
            shares = [mean(sample.cpu), mean(sample.io_wait), sample.memory, mean(sample.gpu), mean(sample.gpu_memory)]
            rates = [sum(found.values()) if found else None for found in (disk, sample.network)]
            numbers = ["" if value is None else f"{value:.6g}" for value in shares + rates]
            table.writerow([node, f"{sample.time:.3f}", *numbers])
    return rows.getvalue()
