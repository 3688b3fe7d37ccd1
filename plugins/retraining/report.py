"""What happened in one run, for people and for `make retrain`: one dict, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from retraining.dataset.summary import cell, summary
from retraining.promotion.approval import person, rejects
from retraining.promotion.check import table

Outcome = Literal["promoted", "kept", "skipped", "failed"]
RULE_KEYS = ("rule", "status", "details", "policy", "means", "advice")
BAD_STATES = ("failed", "upstream_failed")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the tasks of a run left behind; None for tasks that did not run."""

    run_name: str
    recipe: str
    states: Mapping[str, str | None]
    """Task id → Airflow state, in the order of the chain."""
    failures: Mapping[str, str]
    """Task id → what it said when it failed."""
    need: Mapping[str, Any] | None = None
    dataset: Mapping[str, Any] | None = None
    tuning: Mapping[str, Any] | None = None
    trials: Sequence[Mapping[str, Any]] = ()
    inherited: Sequence[Mapping[str, Any]] = ()
    """Trials of the searches that this one began from."""
    training: Mapping[str, Any] | None = None
    debugger: Mapping[str, str] | None = None
    """How the training was watched ("mode"), and why so ("reason")."""
    rules: Sequence[Mapping[str, str]] = ()
    profiler: Mapping[str, Any] | None = None
    comparison: Mapping[str, Any] | None = None
    shadow: Mapping[str, Any] | None = None
    """How alike candidate and champion answered before the candidate had any traffic."""
    approval: Mapping[str, Any] | None = None
    endpoint: Mapping[str, Any] | None = None
    canary: Mapping[str, Any] | None = None
    """How it answered golden images while its update baked, also where that was taken back."""
    serves: Mapping[str, Any] | None = None
    """What rollback saw the endpoint on, after a release that failed."""
    smoke_test: Mapping[str, Any] | None = None
    elsewhere: Sequence[Mapping[str, Any]] | None = None
    """Endpoints of other names that serve a model of this recipe."""
    model_package: Mapping[str, Any] | None = None
    ceiling: Mapping[str, Any] | None = None
    """What the run could cost at most."""
    billed: Mapping[str, Any] | None = None
    """What SageMaker says that its jobs were billed."""
    task_seconds: Mapping[str, float] = field(default_factory=dict)


LEFT: Mapping[str, tuple[str, str]] = {
    "need": ("needs_retraining", "need"),
    "dataset": ("sync_dataset", "return_value"),
    "tuning": ("tune", "return_value"),
    "training": ("train", "return_value"),
    "profiler": ("profiler_report", "return_value"),
    "comparison": ("compare", "comparison"),
    "shadow": ("shadow", "found"),
    "approval": ("approve", "return_value"),
    "endpoint": ("deploy", "return_value"),
    "canary": ("deploy", "canary"),
    "serves": ("rollback", "serves"),
    "smoke_test": ("smoke_test", "return_value"),
    "elsewhere": ("prune", "elsewhere"),
    "model_package": ("register", "return_value"),
    "ceiling": ("preflight", "ceiling"),
}
"""Field of Findings → the task that leaves it in one piece, and under which key."""


def gather(run_name: str, recipe: str, find: Callable[[str, str], Any], **others: Any) -> Findings:
    """What tasks left, asked of `find(task, key)`; `others` are the fields that no task leaves in one piece."""
    found = {name: find(task, key) for name, (task, key) in LEFT.items()}
    return Findings(run_name=run_name, recipe=recipe, **found, **others)


def run_report(found: Findings) -> dict[str, Any]:
    """The report every run ends with, whatever its outcome."""
    outcome, reason = judge(found)
    comparison = found.comparison or {}
    return {
        "run_name": found.run_name,
        "recipe": found.recipe,
        "outcome": outcome,
        "reason": reason,
        "tasks": dict(found.states),
        "failures": dict(found.failures),
        "dataset": dict(found.dataset) if found.dataset else None,
        "tuning": (
            {
                "job": found.tuning["name"],
                "best": found.tuning["best"],
                "warm_start": found.tuning.get("warm_start"),
                "stopped": found.tuning.get("stopped"),
                "trials": [dict(t) for t in found.trials],
                "inherited": [dict(t) for t in found.inherited],
            }
            if found.tuning
            else None
        ),
        "training": ({"job": found.training["name"], "metrics": found.training["metrics"]} if found.training else None),
        "debugger": dict(found.debugger) if found.debugger else None,
        "rules": [{key: rule[key] for key in RULE_KEYS if key in rule} for rule in found.rules],
        "profiler_report": found.profiler["html"] if found.profiler else None,
        "profiler": dict(found.profiler) if found.profiler else None,
        "candidate": comparison.get("candidate"),
        "champion": comparison.get("champion"),
        "uncompared": list((found.need or {}).get("uncompared", ())),
        "evidence": (comparison.get("decision") or {}).get("evidence"),
        "gate": list((comparison.get("decision") or {}).get("gate", ())),
        "shadow": dict(found.shadow) if found.shadow else None,
        "approved_by": None if rejects(found.approval) else person(found.approval),
        "changed_classes": list(comparison.get("changed_classes", ())),
        "confused_pairs": list(comparison.get("confused_pairs", ())),
        "endpoint": {key: found.endpoint[key] for key in ("name", "config")} if found.endpoint else None,
        "serves": dict(found.serves) if found.serves else None,
        "elsewhere": [dict(one) for one in found.elsewhere or ()],
        "nothing_serves": _nothing_serves(found),
        "canary": dict(found.canary) if found.canary else None,
        "smoke_test": dict(found.smoke_test) if found.smoke_test else None,
        "model_package_arn": found.model_package["arn"] if found.model_package else None,
        "ceiling": dict(found.ceiling) if found.ceiling else None,
        "billed": dict(found.billed) if found.billed else None,
    }


def _nothing_serves(found: Findings) -> str:
    """That no endpoint serves, where this run has made none; a run without a need of training says so in its reason."""
    need = found.need or {}
    return str(need.get("nothing_serves") or "") if need.get("needed") and not found.endpoint else ""


def judge(found: Findings) -> tuple[Outcome, str]:
    """The outcome of a run and the one sentence that explains it."""
    broken = [task for task, state in found.states.items() if state in BAD_STATES]
    if broken:
        # Those that failed themselves explain those that could not run after them.
        culprit = next((task for task in broken if found.states[task] == "failed"), broken[0])
        unknown = "it left no reason: it was marked by hand, or its process was killed. See its log"
        return "failed", f"{culprit}: {found.failures.get(culprit, unknown)}"
    if found.states.get("rollback") == "success":
        # Its own word, against that of tasks which a person marked as a success.
        return "failed", "rollback: the endpoint was taken back from this run's model; see the log of this task"
    if found.need is not None and not found.need["needed"]:
        return "skipped", str(found.need["reason"])
    if rejects(found.approval):
        who = person(found.approval)
        return "kept", f"rejected by {who}" if who else "nobody approved it in time"
    decision = (found.comparison or {}).get("decision")
    if decision and not decision["promote"]:
        return "kept", decision["reason"]
    if decision and found.states.get("update_champion") == "success":
        return "promoted", decision["reason"]
    return "failed", "the run ended before it came to a decision"


def as_markdown(report: Mapping[str, Any]) -> str:
    """The report for a log or a page; every section only when there is something in it."""
    lines = [
        f"# {report['recipe']}: {report['outcome']}",
        "",
        f"{report['reason']}",
        "",
        f"Run `{report['run_name']}`.",
    ]
    if absent := report.get("nothing_serves"):
        lines += ["", f"**Endpoint** {absent}."]
    if report["approved_by"]:
        lines += ["", f"Approved by {report['approved_by']}."]
    if uncompared := report["uncompared"]:
        lines += ["", "**Compared with nothing**, as this run was told to (`first_promotion`), although:", ""]
        lines += [f"- {sign}" for sign in uncompared]
    if dataset := report["dataset"]:
        lines += ["", *summary(dataset)]
    scored = [(who, report[who]) for who in ("candidate", "champion") if report[who]]
    if scored:
        lines += ["", "| | accuracy | macro F1 | log loss | test images |", "|---|---|---|---|---|"]
        lines += [
            f"| {who} | {s['accuracy']:.4f} | {s['macro_f1']:.4f} | {s['log_loss']:.4f} | {s['n']} |"
            for who, s in scored
        ]
    if report["gate"]:
        lines += ["", *table(report["gate"])]
    lines += _differences(report)
    if shadow := report.get("shadow"):
        lines += ["", f"**Shadow** {shadow['said']}"]
    if tuning := report["tuning"]:
        stopped = f", stopped {tuning['stopped']}" if tuning.get("stopped") else ""
        lines += ["", f"**Tuning** `{tuning['job']}`, begun from {_beginning(tuning)}{stopped}.", ""]
        lines += ["| trial | status | objective | hyperparameters |", "|---|---|---|---|"]
        for trial in tuning["trials"]:
            star = " ★" if trial["name"] == tuning["best"] else ""
            values = ", ".join(f"{key} {value}" for key, value in trial["hyperparameters"].items())
            lines.append(f"| {trial['name']}{star} | {trial['status']} | {trial['objective']} | {values} |")
    if report["rules"]:
        watched = f" `{report['debugger']['mode']}`: {report['debugger']['reason']}" if report["debugger"] else ""
        lines += ["", f"**Debugger**{watched}", ""]
        lines += [_rule_line(rule) for rule in report["rules"]]
    if report["profiler_report"]:
        lines += ["", f"**Profiler** {report['profiler_report']}"]
    if serves := report["serves"]:
        lines += ["", serves_said(serves)]
    elif endpoint := report["endpoint"]:
        lines += ["", f"**Endpoint** `{endpoint['name']}` serves `{endpoint['config']}`."]
    if canary := report["canary"]:
        lines += ["", f"**Canary** {canary_said(canary)}"]
    if smoke := report["smoke_test"]:
        lines += [f"It calls {smoke['image']} a {smoke['answer']['label']!r}, in {smoke['latency_ms']:.0f} ms."]
    for found in report.get("elsewhere", ()):
        lines += ["", f"**Another endpoint** {elsewhere_said(found)}"]
    lines += _cost(report)
    return "\n".join(lines) + "\n"


def serves_said(serves: Mapping[str, Any]) -> str:
    """What a release that failed has left behind its endpoint."""
    if serves["config"] is None:
        said = f"There is no endpoint {serves['name']}: none served before this run."
    else:
        said = f"The endpoint {serves['name']} serves {serves['config']}, not this run's model."
    return " ".join(filter(None, [said, serves.get("registry")]))


def elsewhere_said(found: Mapping[str, Any]) -> str:
    """What an endpoint of another name than the recipe's is, and how it ends."""
    name = found["endpoint"]
    return (
        f"Endpoint {name} serves {found['config']}, a model of this recipe, and is paid; no run changes it. Once "
        f"nobody asks it: aws sagemaker delete-endpoint --endpoint-name {name}"
    )


def canary_said(found: Mapping[str, Any]) -> str:
    """How the new model answered while the one before still served."""
    if found.get("missed"):
        return "The update ended before golden images could be asked: the smoke test was the first to ask them."
    answers = ", ".join(f"{count} as {way}" for way, count in found["answered"].items() if count) or "none"
    sent = f"({found['requests']} requests sent)"
    said = [f"While the update baked, it answered golden images rightly: {answers} {sent}."]
    if found["wrong"]:
        return " ".join([*said, found["wrong"]])
    if left := ", ".join(f"{count} as {way}" for way, count in found.get("unanswered", {}).items() if count):
        said.append(f"By {left} it was not reached: the smoke test was the first to ask them.")
    if others := found.get("others_failed"):
        said.append(f"The model that served before failed at {others} of these requests.")
    return " ".join(said)


def _differences(report: Mapping[str, Any]) -> list[str]:
    """Which classes changed most, and what is taken for what."""
    lines: list[str] = []
    if changed := report["changed_classes"]:
        lines += ["", "| recall that changed most | candidate | champion | images more | of |", "|---|---|---|---|---|"]
        lines += [
            f"| {cell(c['class'])} | {c['candidate']:.4f} | {c['champion']:.4f} | {c['images']:+d} | {c['n']} |"
            for c in changed
        ]
    if pairs := report["confused_pairs"]:
        lines += ["", "| class | taken for | candidate | champion |", "|---|---|---|---|"]
        lines += [
            f"| {cell(p['class'])} | {cell(p['taken_for'])} | {p['candidate']} | "
            f"{'' if p['champion'] is None else p['champion']} |"
            for p in pairs
        ]
    return lines


def _cost(report: Mapping[str, Any]) -> list[str]:
    """What it could have cost and what it did, as far as that is known."""
    sentences = []
    most = report["ceiling"] if report["outcome"] != "skipped" else None
    if most:
        sentences.append(f"at most {_amount(most['instance_hours'], most['usd'])}, had every job taken all its time")
    if (billed := report["billed"]) and billed["tasks"]:
        hours = sum(billed["instance_seconds"].values()) / 3600
        each = ", ".join(f"{seconds} s of {kind}" for kind, seconds in billed["instance_seconds"].items())
        sentences.append(f"billed {_amount(hours, billed['usd'])}: {each}")
    if most and most["endpoint_usd_per_day"] is not None:
        sentences.append(f"the endpoint costs {most['endpoint_usd_per_day']:.2f} USD a day")
    return ["", f"**Cost** {'; '.join(sentences)}."] if sentences else []


def _amount(hours: float, usd: float | None) -> str:
    return f"{hours:.2f} instance-hours" + (f" ({usd:.2f} USD)" if usd is not None else "")


def _beginning(tuning: Mapping[str, Any]) -> str:
    if not (warm := tuning["warm_start"]):
        return "nothing"
    return ", ".join(f"`{parent}`" for parent in warm["parents"]) + f" ({warm['type']})"


def _rule_line(rule: Mapping[str, str]) -> str:
    ignored = " (ignored)" if rule["policy"] == "ignore" and rule["status"] != "NoIssuesFound" else ""
    advice = f"\n  → {rule['advice']}" if rule.get("advice") else ""
    return f"- {rule['rule']}: {rule['status']}{ignored} {rule['details'].strip()}".rstrip() + advice
