"""May the candidate serve? Measured on the same test images as the champion, through the same serving code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import eq
from typing import Any

from retraining.promotion.evidence import ROUNDING, Evidence, weigh
from retraining.promotion.scores import Evaluation
from retraining.recipe.promotion import Promotion

NO_CHAMPION = "there is no champion yet"


@dataclass(frozen=True, kw_only=True)
class Decision:
    promote: bool
    reason: str
    evidence: Evidence | None = None
    """None without a champion, or where the two cannot be compared."""

    def as_dict(self) -> dict[str, Any]:
        evidence = self.evidence.as_dict() if self.evidence else None
        return {"promote": self.promote, "reason": self.reason, "evidence": evidence}


def decide(candidate: Evaluation, champion: Evaluation | None, rule: Promotion, absent: str = NO_CHAMPION) -> Decision:
    """Promote the candidate or keep the champion, and why, in one sentence a person can check.

    `absent` says why there is no champion to compare with. Evidence that is not valid never promotes.
    """
    if problem := _invalid(candidate) or (_not_comparable(candidate, champion) if champion else ""):
        return Decision(promote=False, reason=problem)
    evidence = weigh(candidate, champion, rule.metric, rule.confidence) if champion else None
    if obstacle := _below_a_floor(candidate, rule):
        return Decision(promote=False, reason=obstacle, evidence=evidence)
    ours = float(getattr(candidate, rule.metric))
    if champion is None or evidence is None:
        return Decision(promote=True, reason=f"{absent}, and {rule.metric} {ours:.4f} is good enough")
    promote, verdict = _judge(evidence, rule)
    theirs = float(getattr(champion, rule.metric))
    return Decision(
        promote=promote,
        reason=f"{rule.metric} {ours:.4f} against the champion's {theirs:.4f}: a gain of {evidence.gain:+.4f} "
        f"{verdict} the required {rule.min_improvement:+.4f}; {evidence}",
        evidence=evidence,
    )


def _judge(evidence: Evidence, rule: Promotion) -> tuple[bool, str]:
    """Promote or not, and the verb between gain and required gain."""
    required = rule.min_improvement - ROUNDING
    reached = evidence.gain >= required
    if rule.evidence == "clearly_better":
        # A gain that may be a loss needs no proof that there is a difference at all.
        clear = reached and evidence.low >= required and (rule.min_improvement < 0 or evidence.significant)
        return clear, "clearly reaches" if clear else "does not clearly reach"
    if rule.evidence == "not_clearly_worse" and not reached:
        clear = evidence.high < required and (rule.min_improvement > 0 or evidence.significant)
        return not clear, "clearly misses" if clear else "does not clearly miss"
    return reached, "reaches" if reached else "misses"


def _invalid(evaluation: Evaluation) -> str:
    """Why these numbers cannot be what a model scored; empty when they can."""
    scores = {"accuracy": evaluation.accuracy, "macro_f1": evaluation.macro_f1, "log_loss": evaluation.log_loss}
    for name, value in scores.items():
        if not (math.isfinite(value) and value >= 0 and (name == "log_loss" or value <= 1)):
            return f"{name} is {value}, which is no score: nothing can be decided by it"
    seen = evaluation.outcomes
    counts = {evaluation.n, *map(len, (seen.names, seen.truths, seen.answered, seen.losses))}
    if len(counts) > 1 or evaluation.n < 1:
        return f"an evaluation of {evaluation.n} images holds the outcomes of {len(seen.names)}"
    right, loss = sum(map(eq, seen.truths, seen.answered)), sum(seen.losses)
    for name, told, counted in (("accuracy", evaluation.accuracy, right), ("log_loss", evaluation.log_loss, loss)):
        if not abs(told - counted / evaluation.n) <= ROUNDING:
            return f"{name} is {told}, but the outcomes of the {evaluation.n} images make {counted / evaluation.n}"
    return ""


def _not_comparable(candidate: Evaluation, champion: Evaluation) -> str:
    if problem := _invalid(champion):
        return f"the champion's {problem}"
    ours, theirs = candidate.outcomes, champion.outcomes
    if candidate.classes != champion.classes:
        return (
            f"candidate and champion were scored on different classes ({', '.join(candidate.classes[:10])}; "
            f"{', '.join(champion.classes[:10])})"
        )
    if candidate.test_digest != champion.test_digest or ours.names != theirs.names or ours.truths != theirs.truths:
        return (
            f"candidate and champion were scored on different test sets ({candidate.test_digest}, "
            f"{candidate.n} images; {champion.test_digest}, {champion.n} images)"
        )
    return ""


def _below_a_floor(candidate: Evaluation, rule: Promotion) -> str:
    ours = float(getattr(candidate, rule.metric))
    if rule.min_value is not None and (ours > rule.min_value if rule.metric == "log_loss" else ours < rule.min_value):
        side = "above the largest" if rule.metric == "log_loss" else "below the smallest"
        return f"{rule.metric} {ours:.4f} is {side} value that may serve, {rule.min_value:.4f}"
    if rule.min_class_recall is None:
        return ""
    # A class without test images has no recall; its 0 is a convention.
    measured = {label: scores for label, scores in candidate.per_class.items() if scores["n"]}
    low = sorted(
        (scores["recall"], label)
        for label, scores in measured.items()
        if not scores["recall"] >= rule.min_class_recall - ROUNDING
    )
    if not low:
        return ""
    recall, label = low[0]
    n = int(measured[label]["n"])
    others = f", nor are those of {len(low) - 1} other classes" if len(low) > 1 else ""
    return (
        f"recall {recall:.4f} of class {label!r} ({round(recall * n)} of {n} test images) is not the "
        f"{rule.min_class_recall:.4f} that every class needs{others}"
    )
