"""What the profiler's figures mean, in plain words: the sub-rules explained, and what stands out in one training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiler.phases import BACKWARDS, FORWARD, OPTIMIZER, PREPARING, TRAIN
from profiler.report.units import duration, moment, share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from profiler.step_timeline import Timeline
    from profiler.system_rules import Job, Usage
    from profiler.system_usage import Share

    Reports = Mapping[str, Mapping[str, Any]]  # sub-rule -> its report

# sub-rule -> (what it looks for, what to do when it is triggered)
ADVICE = {
    "CPUBottleneck": (
        "The GPU idles while a CPU core is busy.",
        "Keep decoded images (--cache-dir), use lighter augmentation, or take an instance with more CPU cores.",
    ),
    "IOBottleneck": (
        "The GPU idles while a CPU core waits for the disk.",
        "Use fewer and larger files, a faster volume, or keep decoded images in memory.",
    ),
    "LowGPUUtilization": (
        "The GPU is mostly idle, or comes and goes.",
        "Raise the batch size or take a smaller GPU; if steps wait for data, mend that first.",
    ),
    "GPUMemoryIncrease": (
        "GPU memory keeps growing.",
        "Look for tensors kept across steps, such as losses summed without .item().",
    ),
    "BatchSize": (
        "CPU, GPU and GPU memory are all far from full.",
        "Raise the batch size, or take a smaller instance.",
    ),
    "LoadBalancing": ("GPUs of one machine carry unequal loads.", "Give every GPU the same share of each batch."),
    "MaxInitializationTime": (
        "The first step comes late.",
        "Prepare before the job what is downloaded or decoded at its start; a cache serves the jobs after it.",
    ),
    "StepOutlier": (
        "Some steps take far longer than the others.",
        "Look for checkpoints or logging within the loop, and for other programs on the machine.",
    ),
    "Dataloader": (
        "Steps wait for their data, or there are too few or too many loaders for the cores.",
        "Decode images once and keep them (--cache-dir), store them smaller, or use about one loader per CPU core.",
    ),
    "OverallSystemUsage": ("Figures only, never triggered: the use of the machine.", ""),
    "OverallFrameworkMetrics": ("Figures only, never triggered: time by phase of the training.", ""),
}
NEEDS_FRAMEWORK = ("MaxInitializationTime", "StepOutlier", "Dataloader", "OverallFrameworkMetrics")
NEEDS_GPU = ("CPUBottleneck", "IOBottleneck", "LowGPUUtilization", "GPUMemoryIncrease", "BatchSize", "LoadBalancing")
MUCH = 0.3  # of the training time in preparing images, or of the job before its first step
MIN_INITIALISATION_S = 60
WAITED, WAITED_A_BIT = 0.25, 0.1  # of the time in which the training wanted to compute
CAUSE = 0.1  # of the cores' time that somebody must have had to be named for it
MIN_MEASURED_S = 5


@dataclass
class Finding:
    """Something that a reader should know first. `level`: "bad", "note" or "good"."""

    level: str
    title: str
    text: str
    advice: str = ""


def findings(
    job: Job,
    usage: Usage,
    timeline: Timeline,
    reports: Reports,
    failures: Sequence[Mapping[str, Any]] = (),
    shares: Mapping[str, Share] | None = None,
) -> list[Finding]:
    """What stands out, the worst first; one good word when nothing does.

    Before all else a machine that did not let the training compute: it explains most of what the rules find then.
    """
    every: list[Finding | None] = [waiting_for_processor(node, share) for node, share in (shares or {}).items()]
    every += [recording_failure(failure) for failure in failures]
    every += [
        finding(rule, report, timeline)
        for rule, report in sorted(reports.items(), key=lambda item: -item[1]["RuleTriggered"])
        if report["RuleTriggered"]
    ]
    every += [preparation(timeline), initialisation(job, timeline), unrecorded(usage, timeline, failures)]
    found = [one for one in every if one]
    if not any(one.level == "bad" for one in found):
        limits = "Nothing recorded here crossed the limits of the rules below."
        found.insert(0, Finding("good", "No problem was found", limits))
    return sorted(found, key=lambda one: ("bad", "good", "note").index(one.level))


def waiting_for_processor(node: str, share: Share) -> Finding | None:
    """A Finding where the training's threads were ready to compute, and something kept them from it."""
    all_cores, held = share.seconds * share.cores, share.throttled or 0.0
    waiting = max(share.waiting_share or 0.0, min(1.0, held / share.seconds) if share.seconds else 0.0)
    if share.seconds < MIN_MEASURED_S or waiting < WAITED_A_BIT:
        return None
    others, stolen = max(0.0, (share.busy or 0.0) - share.used), share.stolen or 0.0
    cores = f"{share.cores} core{'s' * (share.cores > 1)}"
    causes = [
        (
            others / all_cores,
            f"other processes on this machine had {others / share.seconds:.1f} of its {cores} at a mean",
            "Run fewer jobs or other programs beside it, give it cores of its own, or take a larger machine.",
        ),
        (
            stolen / all_cores,
            f"the host of this virtual machine gave {100 * stolen / all_cores:.0f} % of its {cores} to others",
            "Take an instance whose processors are not shared.",
        ),
        (
            held / share.seconds,
            f"its container's limit held it back for {duration(held)}",
            "Raise the container's limit of processors.",
        ),
    ]
    part, cause, todo = max(causes)
    if part < CAUSE:
        own = share.used > (1 - CAUSE) * all_cores
        if own and waiting < 2 * WAITED:  # all cores compute, with a few threads more than there are cores
            return None
        cause = f"its own threads want more than its {cores}" if own else "who had it meanwhile is not known"
        todo = "Use fewer threads (OMP_NUM_THREADS), or take a machine with more cores." if own else ""
    where = f" on {node}" if node != "algo-1" else ""
    title = f"The training waited for a processor for {100 * waiting:.0f} % of the time it wanted to compute{where}"
    text = f"{cause[0].upper()}{cause[1:]}. It computed for {duration(share.used)} within {duration(share.seconds)}, "
    text += f"on {cores}; its steps take as long as this lets them, whatever the figures below say."
    return Finding("bad" if waiting >= WAITED else "note", title, text, todo)


def finding(rule: str, report: Mapping[str, Any], timeline: Timeline) -> Finding:
    details, (meaning, advice) = report["Details"], ADVICE[rule]
    if rule == "Dataloader" and details.get("waiting_percent", 0) > limit_of(report, "starved_threshold"):
        return starvation(details, timeline, advice)
    if rule == "Dataloader":
        many = details["dataloaders"] > details["cores"]
        title = "Too many data loaders" if many else "Too few data loaders"
        return Finding("bad", title, f"{details['dataloaders']} load data on {details['cores']} CPU cores.", advice)
    if rule == "StepOutlier":
        worst = max(details["step_details"].values(), key=lambda entry: entry["number_of_outliers"])
        times = worst["step_stats"]
        text = (
            f"{report['Violations']} steps took far longer than the rest: up to {duration(times['max'])}, where half "
        )
        return Finding("bad", "Some steps are outliers", f"{text}of all take under {duration(times['p50'])}.", advice)
    if rule == "MaxInitializationTime":
        text = f"The first step began {report['RuleTriggered']} minutes later than the rule allows."
        if not details["step_num"]:
            text = "The training loop recorded its start, but not a single step."
        return Finding("bad", "The training started late", text, advice)
    text = f"The rule was triggered {often(report['RuleTriggered'])}, by {report['Datapoints']:,} data points."
    text += particulars(rule, report)
    return Finding("bad", f"{meaning.rstrip('.')} ({rule})", text, advice)


def particulars(rule: str, report: Mapping[str, Any]) -> str:
    """Which device, and how much."""
    details, devices = report["Details"], []
    if rule in ("CPUBottleneck", "IOBottleneck"):
        return f" It was so in {report['Violations']:,} of them."
    for node, gpus in details.items():
        for gpu, entry in gpus.items() if isinstance(gpus, dict) else ():
            if rule == "LowGPUUtilization":
                low = f"{gpu} of {node} is at most {entry['gpu_95']:g} % busy in 95 % of the last readings"
                devices.append(f"{low}, at most {entry['gpu_5']:g} % in 5 %")
            elif rule == "GPUMemoryIncrease":
                devices.append(f"{gpu} of {node} grew by {entry['increase']:g} points, up to {entry['gpu_max']:g} %")
            elif rule == "BatchSize":
                devices.append(f"{gpu.replace('_', ' ')} of {node} is under {entry['p95']:g} % in 95 % of all readings")
    return f" {'; '.join(devices)}." if devices else ""


def starvation(details: Mapping[str, Any], timeline: Timeline, advice: str) -> Finding:
    waited, total = timeline.waiting_seconds or 0.0, timeline.training_seconds
    faster = total / max(total - waited, 1e-9)
    text = (
        f"Steps spent {share(timeline.waiting_share or 0.0)} of the training time waiting for their next batch: "
        f"{duration(waited)} of {duration(total)}. With the data ready the training would be up to "
        f"{min(faster, 100):.1f} times as fast; a faster GPU would not help."
    )
    if details.get("num_workers"):
        threads = "1 thread loads" if details["num_workers"] == 1 else f"{details['num_workers']} threads load"
        advice += f" Now {threads} for each process; the machine has {details['cores']} CPU cores."
    return Finding("bad", "The training waits for its data: the data loader is starving it", text, advice)


def preparation(timeline: Timeline) -> Finding | None:
    total = timeline.training_seconds
    part = timeline.seconds(PREPARING) / total if total else 0
    if part <= MUCH:
        return None
    text = f"Augmenting and moving images to the device takes {share(part)} of the training time."
    return Finding("note", "Preparing images takes long", text, "Use lighter augmentation or a larger batch.")


def initialisation(job: Job, timeline: Timeline) -> Finding | None:
    begin, end = job.get("TrainingStartTime"), job.get("TrainingEndTime")
    if not (timeline.extent and begin and end):
        return None
    took = timeline.extent[0] - begin
    if took < MIN_INITIALISATION_S or took < MUCH * (end - begin):
        return None
    text = f"{duration(took)} of {duration(end - begin)} passed before the first step."
    return Finding("note", "Much of the job is its start", text, ADVICE["MaxInitializationTime"][1])


def recording_failure(failure: Mapping[str, Any]) -> Finding:
    when = f" at {moment(failure['time'])}" if failure.get("time") else ""
    reason = f" The reason: {failure['error']}." if failure.get("error") else ""
    who = "Debugger's hook" if failure["who"] == "debugger" else f"The {failure['who']}"
    text = f"{failure['complaint']}{when}.{reason} What is missing below was not recorded; it is not a sign of health."
    return Finding(
        "bad", f"{who} stopped recording", text[0].upper() + text[1:], "See the job's log for the traceback."
    )


def unrecorded(usage: Usage, timeline: Timeline, failures: Sequence[Mapping[str, Any]]) -> Finding | None:
    if not usage:
        text = "There are no system metrics, so nothing is known of cores, GPUs, memory, disk and network."
        return Finding("note", "The machine was not measured", text, "Run the job with its profiler enabled.")
    if timeline.extent or failures:
        return None
    text = "The training loop recorded no step, so the rules about steps and data loading could not judge."
    if timeline:
        text = "The training loop recorded its start but no step: it ended, or was ended, before the first."
    return Finding(
        "note", "No step times were recorded", text, "Record them as ml/profiler/step_times.py does, or ignore this."
    )


def state(rule: str, report: Mapping[str, Any], usage: Usage, timeline: Timeline) -> tuple[str, str]:
    """("bad" | "good" | "none", what the rules' table says of a sub-rule)."""
    has_gpu = any(sample.gpu for samples in usage.values() for sample in samples)
    if report["RuleTriggered"]:
        return "bad", often(report["RuleTriggered"])
    if not ADVICE[rule][1]:
        return "none", "figures"
    if rule in NEEDS_FRAMEWORK and not timeline:
        return "none", "not judged: no step times"
    if rule in NEEDS_GPU and not has_gpu:
        return "none", "not judged: no GPU"
    patience = limit_of(report, "patience")
    if report["Datapoints"] <= patience:
        return "none", f"not judged: too short (needs over {patience:,.0f} data points)"
    if rule == "StepOutlier" and not report["Details"]["step_details"]:
        return "none", "not judged: too short (needs over 100 steps)"
    return "good", "no"


def often(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def limit_of(report: Mapping[str, Any], name: str) -> float:
    """A limit from the report's RuleParameters; -1 if the rule has no such limit."""
    for line in report["RuleParameters"].splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return float(value)
    return -1


def phase_seconds(timeline: Timeline) -> list[tuple[str, str, float]]:
    """[(colour class, label, seconds)] of training and validation steps, and of the time between them."""
    if not timeline.extent:
        return []
    named = [
        ("waiting", "Waiting for data", timeline.seconds("DataLoaderIter")),
        ("preparing", "Preparing images", timeline.seconds(PREPARING)),
        ("forward", "Forward", timeline.seconds(FORWARD)),
        ("backward", "Backward", timeline.seconds(BACKWARDS[0])),
        ("optimizer", "Optimizer", timeline.seconds(OPTIMIZER)),
    ]
    if not any(seconds for _, _, seconds in named[1:]):  # another program's loop, whose steps have no phases
        names = timeline.step_phases
        kinds = ["forward" if name == TRAIN else "preparing" for name in names]
        named = [
            (kind, name.partition(".")[2].title(), timeline.seconds(name))
            for kind, name in zip(kinds, names, strict=True)
        ]
    first, last = timeline.extent
    rest = max(0.0, (last - first) * len(timeline.all(TRAIN) or [1]) - sum(seconds for _, _, seconds in named))
    return [*named, ("rest", "Between steps", rest)]
