"""Bounds of the recipe for a candidate, each as a check; None where the recipe sets none."""

from __future__ import annotations

from retraining.promotion.check import Check
from retraining.promotion.evidence import ROUNDING
from retraining.promotion.scores import Evaluation
from retraining.recipe.promotion import Promotion


def value(candidate: Evaluation, rule: Promotion) -> Check | None:
    """The floor of the metric, which is a ceiling for log_loss."""
    if rule.min_value is None:
        return None
    ours, loss = float(getattr(candidate, rule.metric)), rule.metric == "log_loss"
    failed = ours > rule.min_value + ROUNDING if loss else ours < rule.min_value - ROUNDING
    side = "above the largest" if loss else "below the smallest"
    problem = f"{rule.metric} {ours:.4f} is {side} value that may serve, {rule.min_value:.4f}"
    bound = f"at {'most' if loss else 'least'} {rule.min_value:.4f}"
    return Check.judged("min_value", f"{rule.metric} {ours:.4f}", bound, problem if failed else "")


def class_recall(candidate: Evaluation, rule: Promotion) -> Check | None:
    """The floor of every class."""
    # A class without test images has no recall; its 0 is a convention.
    measured = {label: scores for label, scores in candidate.per_class.items() if scores["n"]}
    if rule.min_class_recall is None or not measured:
        return None
    order = sorted((scores["recall"], label) for label, scores in measured.items())
    recall, label = order[0]
    n = int(measured[label]["n"])
    low = [recall for recall, _ in order if not recall >= rule.min_class_recall - ROUNDING]
    others = f", nor are those of {len(low) - 1} other classes" if len(low) > 1 else ""
    lowest = f"recall {recall:.4f} of class {label!r} ({round(recall * n)} of {n} test images)"
    problem = f"{lowest} is not the {rule.min_class_recall:.4f} that every class needs{others}"
    bound = f"at least {rule.min_class_recall:.4f} in every class"
    return Check.judged("min_class_recall", f"the lowest, {lowest}", bound, problem if low else "")


def new_classes(candidate: Evaluation, shared: Evaluation, rule: Promotion) -> Check:
    """What the champion does not know has only the floor of every class to pass, which `class_recall` asks for."""
    new = [label for label in candidate.classes if label not in shared.classes]
    recalls = {label: candidate.per_class[label]["recall"] for label in new}
    found = ", ".join(f"{label!r} {recall:.4f}" for label, recall in recalls.items()) or "none"
    if rule.min_class_recall is None:
        return Check(rule="new_classes", value=found, bound="no min_class_recall", verdict="not judged", reason="")
    low = [label for label, recall in recalls.items() if recall < rule.min_class_recall - ROUNDING]
    problem = f"of the new classes {', '.join(low)} miss the floor" if low else ""
    return Check.judged("new_classes", found, f"recall at least {rule.min_class_recall:.4f}", problem)


def calibration(candidate: Evaluation, rule: Promotion) -> Check | None:
    """How far its certainty may be from how often it is right."""
    if rule.max_calibration_error is None:
        return None
    error, most = candidate.calibration_error, rule.max_calibration_error
    problem = (
        f"its certainty is off by {error:.4f} (expected calibration error), more than the {most:.4f} that may serve"
    )
    failed = error > most + ROUNDING
    return Check.judged("max_calibration_error", f"{error:.4f}", f"at most {most:.4f}", problem if failed else "")


def size(size_bytes: int | None, champions_bytes: int | None, rule: Promotion) -> Check | None:
    """The artifact's size against the champion's; None where the recipe does not ask."""
    if rule.max_size_ratio is None:
        return None
    name, bound = "max_size_ratio", f"at most {rule.max_size_ratio:g} times the champion's"
    if not size_bytes or not champions_bytes:
        unknown = "no champion's size is known to compare with"
        return Check(rule=name, value=unknown, bound=bound, verdict="not judged", reason=unknown)
    ratio = size_bytes / champions_bytes
    found = f"{size_bytes / 1e6:.1f} MB against {champions_bytes / 1e6:.1f} MB"
    problem = f"its artifact is {ratio:.2f} times the champion's ({found}), more than {rule.max_size_ratio:g}"
    return Check.judged(name, found, bound, problem if ratio > rule.max_size_ratio else "")
