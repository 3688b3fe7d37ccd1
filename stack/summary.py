"""How a run ended, for the terminal: from the report that the DAG wrote and the times that its tasks took."""

from collections.abc import Sequence
from typing import Any

from stack.progress import Task

SPLITS = ("train", "validation", "test")
OUTCOMES = {
    "promoted": "PROMOTED: the new model serves",
    "kept": "KEPT: the model that served before goes on serving",
    "skipped": "SKIPPED: nothing to retrain",
    "failed": "FAILED",
}


def summary(report: dict[str, Any], tasks: Sequence[Task], total_s: float) -> str:
    """The sections that the report has something for, and the wall time per task."""
    sections = [
        _verdict(report),
        _data(report),
        _tuning(report),
        _rules(report),
        _answer(report),
        wall_times(tasks, total_s),
    ]
    return "\n\n".join(section for section in sections if section)


def _verdict(report: dict[str, Any]) -> str:
    outcome = str(report.get("outcome", "unknown"))
    lines = [f"{OUTCOMES.get(outcome, outcome.upper())}", f"  {report.get('reason') or 'no reason was given'}"]
    for title, key in (("this model", "candidate"), ("champion", "champion")):
        scores = report.get(key)
        if scores:
            lines.append(f"  {title:<11} {_scores(scores)}")
    return "\n".join(lines)


def _scores(scores: dict[str, Any]) -> str:
    parts = [
        f"{words} {scores[key]:.4f}"
        for words, key in (("test accuracy", "accuracy"), ("macro F1", "macro_f1"), ("log loss", "log_loss"))
        if isinstance(scores.get(key), int | float)
    ]
    counted = f" on {scores['n']} images it was not trained on" if scores.get("n") else ""
    return ", ".join(parts) + counted


def _data(report: dict[str, Any]) -> str:
    dataset = report.get("dataset") or {}
    counts = dataset.get("counts") or {}
    if not counts:
        return ""
    splits = sorted(counts, key=lambda split: SPLITS.index(split) if split in SPLITS else len(SPLITS))
    sizes = ", ".join(f"{sum(counts[split].values())} {split}" for split in splits)
    number = len({name for classes in counts.values() for name in classes})
    lines = [f"Data  {sizes} images of {number} classes, version {str(dataset.get('fingerprint', ''))[:12]}"]
    if dataset.get("quarantined"):
        count = dataset["quarantined"]
        lines.append(
            f"  {count} file{'s' if count > 1 else ''} could not be used; dataset.json names each with the reason"
        )
    return "\n".join(lines)


def _tuning(report: dict[str, Any]) -> str:
    tuning = report.get("tuning") or {}
    trials = tuning.get("trials") or []
    if not trials:
        return ""
    names = sorted({name for trial in trials for name in trial.get("hyperparameters") or {}})
    rows = [["", "trial", "objective", *names, "status"]]
    for trial in sorted(trials, key=_objective, reverse=True):
        values = trial.get("hyperparameters") or {}
        objective = trial.get("objective")
        rows.append(
            [
                "*" if trial.get("name") == tuning.get("best") else "",
                str(trial.get("name", "")),
                f"{objective:.4f}" if isinstance(objective, int | float) else "-",
                *(_number(values.get(name, "-")) for name in names),
                str(trial.get("status", "")),
            ]
        )
    return "\n".join([f"Tuning  {len(trials)} trials, best first", *table(rows)])


def _objective(trial: dict[str, Any]) -> float:
    value = trial.get("objective")
    return float(value) if isinstance(value, int | float) else float("-inf")


def _number(value: Any) -> str:
    try:
        return f"{float(value):.4g}"
    except (TypeError, ValueError):
        return str(value)


def _rules(report: dict[str, Any]) -> str:
    rules = report.get("rules") or []
    if not rules:
        return ""
    rows = [
        [str(rule.get("rule")), str(rule.get("status")), " ".join(str(rule.get("details") or "").split())]
        for rule in rules
    ]
    return "\n".join(["Debugger rules", *table(rows)])


def _answer(report: dict[str, Any]) -> str:
    endpoint, smoke = report.get("endpoint") or {}, report.get("smoke_test") or {}
    if not endpoint and not smoke:
        return ""
    lines = [f"Endpoint  {endpoint.get('name', '?')} serves {endpoint.get('config', '?')}"]
    if smoke:
        answer = smoke.get("answer") or {}
        score = answer.get("score")
        sure = f" with {score:.1%}" if isinstance(score, int | float) else ""
        took = smoke.get("latency_ms")
        latency = f" in {took:.0f} ms" if isinstance(took, int | float) else ""
        lines.append(f"  {smoke.get('image')} (a {smoke.get('expected')}) → {answer.get('label')}{sure}{latency}")
    return "\n".join(lines)


def wall_times(tasks: Sequence[Task], total_s: float) -> str:
    """How long each task took; tasks that never began are left out."""
    rows = [[task.name, f"{task.seconds:.1f} s", task.state] for task in tasks if task.seconds is not None]
    return "\n".join([f"Wall time  {total_s:.0f} s in all", *table(rows, right=(1,))])


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """The rows as aligned, indented lines."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
