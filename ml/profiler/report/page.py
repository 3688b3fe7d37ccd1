"""profiler-report.html: one self-contained page, no script and nothing from the network, for light and dark screens."""

from __future__ import annotations

import time
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from profiler.phases import BACKWARDS, EVAL, FORWARDS, OPTIMIZER, PREPARING, TRAIN, WAITING
from profiler.report import advice
from profiler.report.advice import ADVICE
from profiler.report.charts import area_chart, heat_map, histogram, line_chart, share_bar
from profiler.report.units import duration, moment, share
from profiler.step_timeline import Timeline
from profiler.system_rules import mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from profiler.report.advice import Finding, Reports
    from profiler.report.charts import Points
    from profiler.step_timeline import Spans
    from profiler.system_rules import Job, Usage
    from profiler.system_usage import Sample, Share

STYLE = Path(__file__).with_name("page.css")
COLUMNS = 120  # of the chart of phases, at most
STEPS_A_COLUMN = 4  # at least, else columns show parts of steps rather than shares
EVERY_STEP = 250  # up to so many steps each is drawn, else the median of neighbours
MAX_DOTS = 60
HISTOGRAM_BARS = 40
UNITS = {"Network": "MB/s", "GPU": "%", "CPU": "%", "CPU memory": "%", "GPU memory": "%", "I/O": "% waiting"}
SHORT = {"ReceiveBytesPerSecond": "received", "TransmitBytesPerSecond": "sent"}
SHORT |= {"ReadThroughputInBytesPerSecond": "read", "WriteThroughputInBytesPerSecond": "written"}
THEMES = (("auto", "as the system"), ("light", "light"), ("dark", "dark"))


def report_html(
    job: Job,
    usage: Usage,
    reports: Reports,
    timeline: Timeline | None = None,
    failures: Sequence[Mapping[str, Any]] = (),
    shares: Mapping[str, Share] | None = None,
) -> str:
    """The page. `job` is the server's job.json, `usage` from read_usage, `reports` from profiler_rules.profile,
    `timeline` from read_timeline, `failures` from recording.failures, `shares` from read_shares."""
    timeline = Timeline() if timeline is None else timeline
    period = Period(job, usage, timeline)
    sections = [
        ("summary", "What stands out", found(advice.findings(job, usage, timeline, reports, failures, shares or {}))),
        ("job", "Job", stages(job, timeline, period) + job_facts(job, usage, timeline)),
        ("steps", "Steps", steps(timeline, reports, period)),
        ("machine", "Machine", "".join(machine(node, samples, period) for node, samples in usage.items())),
        ("rules", "Rules", rules_table(usage, timeline, reports)),
        ("usage", "System usage", usage_table(reports["OverallSystemUsage"]["Details"])),
    ]
    sections = [(anchor, title, body) for anchor, title, body in sections if body]
    name = escape(str(job.get("TrainingJobName", "training job")))
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title, _ in sections)
    body = "".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-title"><h2 id="{anchor}-title">{title}</h2>{text}</section>'
        for anchor, title, text in sections
    )
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>Profiler report: {name}</title><style>{STYLE.read_text(encoding='utf-8')}</style>"
    top = f'<div><p class="eyebrow">Profiler report of a training job</p><h1>{name}</h1></div>{themes()}'
    top += f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
    foot = f"<footer>Written {moment(time.time())}. The figures behind it are in the job's folder profiler-output: "
    foot += "profiler-reports/*.json, steps.csv and system.csv; profiler-report.ipynb reads them.</footer>"
    page = (
        f'<a class="skip" href="#summary">To the content</a><header><div>{top}</div></header><main>{body}</main>{foot}'
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{page}</body></html>\n'


class Period:
    """The time that the charts show: all of them begin and end together."""

    def __init__(self, job: Job, usage: Usage, timeline: Timeline) -> None:
        begin = [job.get("TrainingStartTime"), *(samples[0].time for samples in usage.values() if samples)]
        end = [job.get("TrainingEndTime"), *(samples[-1].time for samples in usage.values() if samples)]
        if timeline.extent:
            begin, end = [*begin, timeline.extent[0]], [*end, timeline.extent[1]]
        self.begin = min((moment for moment in begin if moment), default=0.0)
        self.end = max((moment for moment in end if moment), default=self.begin + 1)
        self.seconds = max(self.end - self.begin, 1e-3)


def themes() -> str:
    choices = "".join(
        f'<label><input type="radio" name="theme" id="theme-{key}"{" checked" * (key == "auto")}>{text}</label>'
        for key, text in THEMES
    )
    return f'<fieldset class="theme"><legend>Colours</legend>{choices}</fieldset>'


def found(findings: Sequence[Finding]) -> str:
    words = {"bad": "Problem", "note": "Note", "good": "Good"}
    return "".join(
        f'<div class="finding {one.level}" role="note" aria-label="{words[one.level]}"><h3>{escape(one.title)}</h3>'
        f"<p>{escape(one.text)}</p>" + (f"<p><b>What to do:</b> {escape(one.advice)}</p>" * bool(one.advice)) + "</div>"
        for one in findings
    )


def stages(job: Job, timeline: Timeline, period: Period) -> str:
    """Where the job's time went before, in and after its training loop."""
    created, started, ended = (job.get(key) for key in ("CreationTime", "TrainingStartTime", "TrainingEndTime"))
    started, ended = started or period.begin, ended or period.end
    parts = [("rest", "Waiting for its start", max(0.0, started - created) if created else 0.0)]
    if timeline.extent:
        first, last = timeline.extent
        parts += [("stage", "Initialisation", first - started), ("forward", "Training loop", last - first)]
        parts += [("optimizer", "Finalisation", ended - last)]
    else:
        parts += [("forward", "Training", ended - started)]
    total = sum(max(0.0, seconds) for _, _, seconds in parts) or 1.0
    bar = [(colour, name, max(0.0, seconds) / total, duration(max(0.0, seconds))) for colour, name, seconds in parts]
    return f'<div class="card pad"><b>Stages of the job</b>{share_bar(bar, "Stages of the job")}</div>'


def job_facts(job: Job, usage: Usage, timeline: Timeline) -> str:
    created, started, ended = (job.get(key) for key in ("CreationTime", "TrainingStartTime", "TrainingEndTime"))
    parameters = job.get("HyperParameters") or {}
    shown = {key: value for key, value in sorted(parameters.items()) if not key.startswith("sagemaker_")}
    counts = [
        f"{sum(map(len, timeline.all(name))):,} {word} steps"
        for name, word in ((TRAIN, "training"), (EVAL, "validation"))
    ]
    recorded = [f"{sum(map(len, usage.values())):,} readings of the machine"]
    recorded += [text for text in counts if not text.startswith("0 ")] or ["no steps"]
    rows = [
        ("Instance", job.get("InstanceType")),
        ("Created", created and moment(created)),
        ("Training", started and ended and f"{moment(started)} to {moment(ended)} ({duration(ended - started)})"),
        ("Recorded", ", ".join(recorded)),
        ("Hyperparameters", ", ".join(f"{key} = {value}" for key, value in shown.items())),
    ]
    cells = "".join(f"<dt>{label}</dt><dd>{escape(str(value))}</dd>" for label, value in rows if value)
    return f'<div class="card pad"><dl class="facts">{cells}</dl></div>'


# The training loop.


def steps(timeline: Timeline, reports: Reports, period: Period) -> str:
    if not timeline.extent:
        return ""
    phases = advice.phase_seconds(timeline)
    total = sum(seconds for _, _, seconds in phases) or 1.0
    bar = [(colour, name, seconds / total, share(seconds / total)) for colour, name, seconds in phases]
    drawn = f'<div class="card pad"><b>Time by phase</b>{share_bar(bar, "Time by phase")}</div>'
    note = "Share of each moment's time, from the first step to the last. Empty is time outside of the loop."
    drawn += area_chart("Phases over time", layers(timeline, phases, period), period.seconds, note)
    drawn += step_durations(timeline, period)
    pair = [histogram_of("Training step durations", seconds_of(timeline, TRAIN), "s0")]
    pair += [histogram_of("Waits for a batch", seconds_of(timeline, WAITING), "waiting")]
    if seconds_of(timeline, TRAIN).size == 0:
        pair[0] = histogram_of("Validation step durations", seconds_of(timeline, EVAL), "s1")
    return tiles(timeline, reports) + drawn + f'<div class="pair">{"".join(pair)}</div>'


def tiles(timeline: Timeline, reports: Reports) -> str:
    train, shown = seconds_of(timeline, TRAIN), []

    def tile(name: str, value: str, text: str, kind: str = "") -> None:
        inside = f"<dt>{name}</dt><dd>{value} <small>{text}</small></dd>"
        shown.append(f'<div class="card tile {kind}">{inside}</div>')

    if train.size:
        (p50, p95), processes = np.quantile(train, [0.5, 0.95]), len(timeline.all(TRAIN))
        tile("Training steps", f"{train.size:,}", f"of {processes} processes" if processes > 1 else "recorded")
        tile("Median step", duration(p50), f"95 % of steps are under {duration(p95)}")
        tile("Slowest step", duration(train.max()), f"{train.max() / max(p50, 1e-9):.1f} times the median")
    if timeline.waiting_share is not None:
        kind = "bad" if reports["Dataloader"]["RuleTriggered"] else ""
        tile("Waiting for data", share(timeline.waiting_share), "of the training time", kind)
    both = reports["OverallFrameworkMetrics"]["Details"].get("forward_backward")
    if both:
        ratio = both["Backward pass"] / max(both["Forward pass"], 1e-9)
        tile("Backward to forward", f"{ratio:.1f} : 1", "about 2 : 1 where all layers learn")
    return f'<dl class="tiles">{"".join(shown)}</dl>'


def layers(
    timeline: Timeline, phases: Sequence[tuple[str, str, float]], period: Period
) -> list[tuple[str, str, Points]]:
    """For each phase its share of every column of time; what remains within the loop is the time between steps."""
    names = {"waiting": WAITING, "preparing": PREPARING, "forward": FORWARDS[0], "backward": BACKWARDS[0]}
    names |= {"optimizer": OPTIMIZER}
    if not timeline.all(PREPARING, FORWARDS[0]):
        names = {"forward": TRAIN, "preparing": EVAL}
    processes = max(1, len(timeline.all(TRAIN) or timeline.all(EVAL)))
    count = sum(map(len, timeline.all(*timeline.step_phases))) / processes
    columns = int(min(COLUMNS, max(12, count // STEPS_A_COLUMN)))
    edges = np.linspace(period.begin, period.end, columns + 1)
    width = (edges[1] - edges[0]) * processes
    assert timeline.extent is not None  # where there are steps
    first, last = timeline.extent
    rest = np.clip(np.minimum(edges[1:], last) - np.maximum(edges[:-1], first), 0, None) / (edges[1] - edges[0])
    drawn, seconds = [], edges[:-1] - period.begin
    for colour, label, _ in phases:
        if colour == "rest":
            continue
        busy = sum((busy_in(spans, edges) for spans in timeline.all(names.get(colour, ""))), np.zeros(columns)) / width
        busy = np.minimum(busy, rest)
        rest = rest - busy
        drawn.append((colour, label, list(zip(seconds.tolist(), busy.tolist(), strict=True))))
    return [*drawn, ("rest", "Between steps", list(zip(seconds.tolist(), rest.tolist(), strict=True)))]


def busy_in(spans: Spans, edges: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Seconds of the spans between each two edges; the spans of one process do not overlap."""
    times = np.stack([spans.start, spans.end], axis=1).ravel()
    done = np.cumsum(spans.seconds)
    total = np.stack([done - spans.seconds, done], axis=1).ravel()
    return np.diff(np.interp(edges, times, total))


def step_durations(timeline: Timeline, period: Period) -> str:
    lines: dict[str, Points] = {}
    bands: list[list[tuple[float, float, float]]] = []
    dots, loose = [], []
    for name, label in ((TRAIN, "training"), (EVAL, "validation")):
        for spans in timeline.all(name):
            key = label if len(timeline.all(name)) == 1 else f"{label} {len(lines) + 1}"
            seconds = spans.start - period.begin
            if len(spans) <= EVERY_STEP:
                lines[key] = list(zip(seconds.tolist(), spans.seconds.tolist(), strict=True))
                bands.append([])
                loose.append(key)
                continue
            groups = np.array_split(np.arange(len(spans)), COLUMNS)
            middle = [float(seconds[group].mean()) for group in groups]
            low, half, high = (
                [float(np.quantile(spans.seconds[group], q)) for group in groups] for q in (0.05, 0.5, 0.95)
            )
            lines[key] = list(zip(middle, half, strict=True))
            bands.append(list(zip(middle, low, high, strict=True)))
            dots += outliers(spans, seconds)
    note = "Line: median of neighbouring steps, shaded: 5 % to 95 % of them." if any(bands) else ""
    return line_chart("Step durations", "seconds", lines, period.seconds, None, bands, dots, note, loose)


def outliers(spans: Spans, seconds: NDArray[np.float64]) -> list[tuple[float, float, str]]:
    """The longest steps beyond three standard deviations, as dots."""
    far = np.flatnonzero(spans.seconds > spans.seconds.mean() + 3 * spans.seconds.std())
    far = far[np.argsort(-spans.seconds[far])][:MAX_DOTS]
    return [
        (float(seconds[i]), float(spans.seconds[i]), f"step {spans.step[i]}: {duration(float(spans.seconds[i]))}")
        for i in far
    ]


def histogram_of(title: str, seconds: NDArray[np.float64], colour: str) -> str:
    if seconds.size < 2 or seconds.max() <= 0:
        return ""
    bar = min(float(seconds.max()), float(seconds.mean() + 3 * seconds.std()))
    beyond = int((seconds > bar).sum())
    counts, edges = np.histogram(seconds[seconds <= bar], bins=HISTOGRAM_BARS)
    p50, p95 = (min(bar, float(np.quantile(seconds, q))) for q in (0.5, 0.95))
    note = f"{beyond} more took up to {duration(float(seconds.max()))}." if beyond else ""
    return histogram(title, counts.tolist(), edges.tolist(), ((p50, "median"), (p95, "95 %")), note, colour)


def seconds_of(timeline: Timeline, phase: str) -> NDArray[np.float64]:
    found = timeline.all(phase)
    return np.concatenate([spans.seconds for spans in found]) if found else np.zeros(0)


# The machine.


def machine(node: str, samples: Sequence[Sample], period: Period) -> str:
    def series(read: Callable[[Sample], float | None]) -> Points:
        return [(s.time - period.begin, value) for s in samples if (value := read(s)) is not None]

    def reader(group: str, label: str) -> Callable[[Sample], float | None]:
        return lambda s: getattr(s, group).get(label)

    def lines(group: str) -> dict[str, Points]:
        labels = sorted({label for s in samples for label in getattr(s, group)}, key=lambda label: (len(label), label))
        return {SHORT.get(label, label): series(reader(group, label)) for label in labels}

    cores, disk = lines("cpu"), lines("io")
    operations = {"operations": disk.pop("IOPS")} if "IOPS" in disk else {}
    name = f"mean of {len(cores)} cores"

    def average(group: str) -> dict[str, Points]:
        return {name: series(lambda s: mean(getattr(s, group)))}

    def spread(group: str) -> list[list[tuple[float, float, float]]]:
        found = [(s.time - period.begin, getattr(s, group).values()) for s in samples if getattr(s, group)]
        return [[(second, min(values), max(values)) for second, values in found[:: max(1, len(found) // COLUMNS)]]]

    drawn = [
        ("CPU", "%", average("cpu"), 100, spread("cpu"), "Shaded: from the idlest to the busiest core."),
        ("GPU", "%", lines("gpu"), 100, [], ""),
        ("Memory", "%", {"used": series(lambda s: s.memory)}, 100, [], ""),
        ("GPU memory", "%", lines("gpu_memory"), 100, [], ""),
        ("Waiting for the disk", "% of CPU time", average("io_wait"), None, spread("io_wait"), ""),
        ("Disk", "B/s", disk, None, [], ""),
        ("Disk operations", "1/s", operations, None, [], ""),
        ("Network", "B/s", lines("network"), None, [], ""),
    ]
    shown, idle = [], []
    for title, unit, found, top, bands, note in drawn:
        if any(value for points in found.values() for _, value in points):
            shown.append(line_chart(title, unit, found, period.seconds, top=top, bands=bands, note=note))
        elif any(found.values()):
            idle.append(title.lower())
    heat = heat_map("CPU cores", "% busy", cores, period.seconds)
    rest = f'<p class="note">Zero throughout: {", ".join(idle)}.</p>' if idle else ""
    first, *others = shown or [""]
    return f'<h3>{escape(node)}</h3>{first}{heat}<div class="pair">{"".join(others)}</div>{rest}'


def usage_table(details: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    columns = ("max", "p99", "p95", "p50", "min")
    head = "".join(f'<th scope="col" class="n">{column}</th>' for column in columns)
    rows = []
    for resource, nodes in details.items():
        for node, figures in nodes.items():
            size = 1e6 if resource == "Network" else 1
            numbers = "".join(f'<td class="n">{figures[column] / size:,.2f}</td>' for column in columns)
            rows.append(
                f'<tr><th scope="row">{resource}</th><td>{escape(node)}</td><td>{UNITS[resource]}</td>{numbers}</tr>'
            )
    if not rows:
        return ""
    head = (
        f'<thead><tr><th scope="col">Resource</th><th scope="col">Node</th><th scope="col">Unit</th>{head}</tr></thead>'
    )
    caption = "<caption>CPU and GPU are means over cores and devices. What is not listed was not there.</caption>"
    table = f"<table>{caption}{head}<tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="card wide" tabindex="0" role="region" aria-label="System usage">{table}</div>'


def rules_table(usage: Usage, timeline: Timeline, reports: Reports) -> str:
    order = {"bad": 0, "good": 1, "none": 2}
    rows = []
    for rule, report in reports.items():
        kind, text = advice.state(rule, report, usage, timeline)
        meaning, remedy = ADVICE[rule]
        todo = {"bad": remedy, "good": "Nothing to do."}.get(kind, "")
        limits = escape(report["RuleParameters"].replace("\n", ", ").replace(":", " ")) or "none"
        row = (
            f'<tr><th scope="row"><b>{rule}</b><small>{meaning}</small></th>'
            f'<td data-label="Triggered"><span class="state {kind}">{text}</span></td>'
            + (f'<td data-label="Advice">{todo}</td>' if todo else "<td></td>")
            + f'<td class="n" data-label="Data points">{report["Datapoints"]:,}</td>'
            f'<td data-label="Limits" class="limits">{limits}</td></tr>'
        )
        rows.append((order[kind], -report["RuleTriggered"], row))
    body = "".join(row for _, _, row in sorted(rows, key=lambda entry: entry[:2]))
    titles = (("Rule", ""), ("Triggered", ""), ("Advice", ""), ("Data points", ' class="n"'), ("Limits", ""))
    head = "".join(f'<th scope="col"{kind}>{title}</th>' for title, kind in titles)
    return f'<div class="card stack"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
