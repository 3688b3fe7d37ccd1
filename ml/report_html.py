"""profiler-report.html: one self-contained page, no script and nothing from the network, for light and dark screens."""

from datetime import datetime, timezone
from html import escape

from charts import line_chart

STYLE = """
:root { color-scheme: light dark; --page: #f7f8fa; --card: #fff; --ink: #1b2430; --soft: #5b6776; --line: #dfe4ea;
  --good: #1a7f4b; --bad: #b3410e; --accent: #0b62c4;
  --c0: #0b62c4; --c1: #c4570b; --c2: #1a7f4b; --c3: #8b3fb5; --c4: #b0244f; --c5: #0f7c86;
  --c6: #7a6a00; --c7: #5b6776; }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1a2029; --ink: #e6eaf0; --soft: #9aa7b6;
  --line: #2d3643; --good: #5fd394; --bad: #ff9d66; --accent: #6db3ff;
  --c0: #6db3ff; --c1: #ffa45c; --c2: #5fd394; --c3: #cf96f2; --c4: #ff86a8; --c5: #5fd0da;
  --c6: #d9c65a; --c7: #9aa7b6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 18px; margin: 36px 0 12px; }
p.lead { color: var(--soft); margin: 4px 0 0; } p.note { color: var(--soft); }
.card, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.card { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 9px 14px; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
tr:first-child > * { border-top: 0; } th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.n, th.n { text-align: right; } td small { color: var(--soft); display: block; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
figure { margin: 0 0 14px; padding: 14px 16px 8px; } figcaption span { color: var(--soft); margin-right: 12px; }
svg { display: block; width: 100%; height: auto; margin-top: 6px; } svg text { fill: var(--soft); font-size: 12px; }
.grid, .tick { stroke: var(--line); fill: none; } .line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.key i { display: inline-block; width: 12px; height: 3px; margin: 0 6px 4px 0; background: currentColor; }
"""
STYLE += "".join(f".line.s{i} {{ stroke: var(--c{i}); }} .key i.s{i} {{ color: var(--c{i}); }}\n" for i in range(8))

# sub-rule -> (what it looks for, what to do when it is triggered)
ADVICE = {
    "CPUBottleneck": (
        "The GPU waits for a busy CPU.",
        "Decode images once, or take more CPU cores.",
    ),
    "IOBottleneck": ("The GPU waits for the disk.", "Use fewer, larger files, or cache decoded images in memory."),
    "LowGPUUtilization": ("The GPU is mostly idle, or comes and goes.", "Raise the batch size or take a smaller GPU."),
    "GPUMemoryIncrease": ("GPU memory keeps growing.", "Look for tensors kept across steps, such as summed losses."),
    "BatchSize": ("CPU, GPU and its memory are far from full.", "Raise the batch size, or take a smaller instance."),
    "LoadBalancing": ("GPUs carry unequal loads.", "Give every GPU the same share of each batch."),
    "MaxInitializationTime": (
        "The first step comes late.",
        "Move downloads and decoding elsewhere.",
    ),
    "StepOutlier": (
        "Some steps take far longer than others.",
        "Look for saving or logging in the loop.",
    ),
    "Dataloader": ("Too few or too many data loader processes.", "Use about one loader per CPU core."),
    "OverallSystemUsage": ("Figures only: the statistics above.", ""),
    "OverallFrameworkMetrics": ("Figures only: time by phase of training.", ""),
}
NEEDS_FRAMEWORK = ("MaxInitializationTime", "StepOutlier", "Dataloader", "OverallFrameworkMetrics")
NEEDS_GPU = ("CPUBottleneck", "IOBottleneck", "LowGPUUtilization", "GPUMemoryIncrease", "BatchSize", "LoadBalancing")
UNITS = {"Network": "bytes/s", "GPU": "%", "CPU": "%", "CPU memory": "%", "GPU memory": "%", "I/O": "% waiting"}


def report_html(job, usage, reports):
    """The page. `job` is the server's job.json, `usage` from read_usage, `reports` from profiler_rules.profile."""
    name = escape(str(job.get("TrainingJobName", "training job")))
    sections = [
        f'<h1>{name}</h1><p class="lead">Profiler report of a training job</p>',
        "<h2>Job</h2>" + job_table(job, usage),
        "<h2>System usage</h2>" + usage_table(reports["OverallSystemUsage"]["Details"]),
        "<h2>Over time</h2>" + "".join(charts(node, samples) for node, samples in usage.items()),
        "<h2>Rules</h2>" + rules_table(usage, reports),
    ]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>Profiler report: {name}</title><style>{STYLE}</style>"
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body><main>{"".join(sections)}</main></body></html>\n'


def job_table(job, usage):
    created, started, ended = (job.get(key) for key in ("CreationTime", "TrainingStartTime", "TrainingEndTime"))
    rows = [("Instance", job.get("InstanceType")), ("Created", moment(created))]
    rows += [("Training", f"{moment(started)} to {moment(ended)}" if started and ended else None)]
    rows += [("Waited for the start", duration(created, started)), ("Training time", duration(started, ended))]
    rows += [("Samples", f"{sum(map(len, usage.values())):,}")]
    parameters = job.get("HyperParameters") or {}
    shown = {key: value for key, value in sorted(parameters.items()) if not key.startswith("sagemaker_")}
    rows += [("Hyperparameters", ", ".join(f"{key} = {value}" for key, value in shown.items()))]
    cells = (f"<tr><th>{label}</th><td>{escape(str(value))}</td></tr>" for label, value in rows if value)
    return f'<div class="card"><table>{"".join(cells)}</table></div>'


def usage_table(details):
    columns = ("max", "p99", "p95", "p50", "min")
    head = "".join(f'<th class="n">{column}</th>' for column in columns)
    rows = [f"<tr><th>Resource</th><th>Node</th><th>Unit</th>{head}</tr>"]
    for resource, nodes in details.items():
        for node, figures in nodes.items():
            numbers = "".join(f'<td class="n">{figures[column]:,.2f}</td>' for column in columns)
            rows.append(f"<tr><td>{resource}</td><td>{escape(node)}</td><td>{UNITS[resource]}</td>{numbers}</tr>")
    note = "CPU and GPU are means over cores and devices. What is not listed was not there."
    return f'<div class="card"><table>{"".join(rows)}</table></div><p class="note">{note}</p>'


def charts(node, samples):
    start = samples[0].time

    def lines(group):
        labels = sorted({label for s in samples for label in getattr(s, group)}, key=lambda label: (len(label), label))
        return {
            pretty(label): [(s.time - start, getattr(s, group)[label]) for s in samples if label in getattr(s, group)]
            for label in labels
        }

    throughput, operations = lines("io"), {}
    if "IOPS" in throughput:
        operations = {"operations": throughput.pop("IOPS")}
    memory = [(sample.time - start, sample.memory) for sample in samples if sample.memory is not None]
    return (
        line_chart(f"CPU, {node}", "%", lines("cpu"), top=100)
        + line_chart(f"GPU, {node}", "%", lines("gpu"), top=100)
        + line_chart(f"Memory, {node}", "%", {"used": memory}, top=100)
        + line_chart(f"GPU memory, {node}", "%", lines("gpu_memory"), top=100)
        + line_chart(f"Waiting for the disk, {node}", "% of CPU time", lines("io_wait"), top=100)
        + line_chart(f"Disk, {node}", "B/s", throughput)
        + line_chart(f"Disk, {node}", "operations/s", operations)
        + line_chart(f"Network, {node}", "B/s", lines("network"))
    )


def rules_table(usage, reports):
    has_gpu = any(sample.gpu for samples in usage.values() for sample in samples)
    rows = []
    for rule, report in sorted(reports.items(), key=lambda entry: -entry[1]["RuleTriggered"]):
        meaning, advice = ADVICE[rule]
        if report["RuleTriggered"]:
            state = f'<span class="bad">{report["RuleTriggered"]} times</span>'
        elif rule in NEEDS_FRAMEWORK:
            state, advice = "not judged", "The job has no framework events, which this rule reads."
        elif rule in NEEDS_GPU and not has_gpu:
            state, advice = "not judged", "The job has no GPU, which this rule is about."
        else:
            state, advice = '<span class="good">no</span>', advice and "Nothing to do."
        limits = escape(report["RuleParameters"].replace("\n", ", ").replace(":", " "))
        rows.append(
            f"<tr><td><b>{rule}</b><small>{meaning}</small></td><td>{state}</td><td>{advice}</td>"
            f'<td class="n">{report["Datapoints"]:,}</td><td><small>{limits}</small></td></tr>'
        )
    head = '<tr><th>Rule</th><th>Triggered</th><th>Advice</th><th class="n">Data points</th><th>Parameters</th></tr>'
    return f'<div class="card"><table>{head}{"".join(rows)}</table></div>'


def pretty(label):
    short = {"ReceiveBytesPerSecond": "received", "TransmitBytesPerSecond": "sent"}
    short |= {"ReadThroughputInBytesPerSecond": "read", "WriteThroughputInBytesPerSecond": "written"}
    return short.get(label, label)


def moment(seconds):
    return seconds and datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(start, end):
    return f"{end - start:.1f} s" if start and end else None
