"""May the candidate serve? Measured on the same test images as the champion, through the same serving code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any

from retraining.promotion import bounds
from retraining.promotion.check import Check, Verdict
from retraining.promotion.evidence import ROUNDING, Evidence, weigh
from retraining.promotion.parts import clearly_worse, parts, too_small
from retraining.promotion.scores import Evaluation
from retraining.recipe.promotion import Promotion
from retraining.recipe.slices import Traits

NO_CHAMPION = "there is no champion yet"
SHOWN = 5
TELLING = 50
"""Test images; of fewer, two more that are wrong are 4 % and more, and no test calls two clear."""
ALPHA = 0.05  # how often a candidate as good as the champion may be called worse in some class


@dataclass(frozen=True, kw_only=True)
class Decision:
    promote: bool
    reason: str
    evidence: Evidence | None = None
    """None without a champion, or where the two cannot be compared."""
    checks: tuple[Check, ...] = ()
    """Every rule that was asked; none where the numbers are no evidence at all."""

    def as_dict(self) -> dict[str, Any]:
        evidence = self.evidence.as_dict() if self.evidence else None
        gate = [check.as_dict() for check in self.checks]
        return {"promote": self.promote, "reason": self.reason, "evidence": evidence, "gate": gate}


def decide(
    candidate: Evaluation,
    champion: Evaluation | None,
    rule: Promotion,
    absent: str = NO_CHAMPION,
    others: Sequence[Check] = (),
    shared: Evaluation | None = None,
    traits: Mapping[str, Traits] | None = None,
) -> Decision:
    """Promote the candidate or keep the champion, and why, in words a person can check: all that is wrong.

    `absent` says why there is no champion to compare with; `others` were made of more than answers. Where the champion
    knows other classes, or learned from some of the test images, it was scored on what both can be judged by, and
    `shared` is the candidate on just that. `traits`: test image → what the recipe's slices go by. Evidence that is not
    valid never promotes.
    """
    compared = shared or candidate
    if problem := _invalid(candidate) or (_not_comparable(compared, champion) if champion else ""):
        return Decision(promote=False, reason=problem)
    floors = (bounds.value(candidate, rule), bounds.class_recall(candidate, rule), bounds.calibration(candidate, rule))
    checks = [*filter(None, floors), *others]
    evidence = None
    if champion:
        evidence = weigh(compared, champion, rule.metric, rule.interval)
        checks.append(_improvement(compared, champion, evidence, rule, _images(candidate, shared) if shared else ""))
        if rule.worse_classes != "ignore":
            checks.append(_worse_parts(compared, champion, rule, traits))
        if shared and shared.classes != candidate.classes:
            checks.append(bounds.new_classes(candidate, shared, rule))
    failed = [check.reason for check in checks if check.verdict == "failed"]
    if failed:
        return Decision(promote=False, reason="; and ".join(failed), evidence=evidence, checks=tuple(checks))
    ours = float(getattr(candidate, rule.metric))
    told = [check.reason for check in checks if check.rule == "min_improvement" or check.verdict == "warned"]
    if shared and shared.classes != candidate.classes:
        told[0] = f"on the {len(shared.classes)} of {len(candidate.classes)} classes that both know, {told[0]}"
    reason = "; but ".join(told) if champion else f"{absent}, and {rule.metric} {ours:.4f} is good enough"
    return Decision(promote=True, reason=reason, evidence=evidence, checks=tuple(checks))


def _images(candidate: Evaluation, shared: Evaluation) -> str:
    """Which of them both are judged by, where these are not all of the classes that both know."""
    n = round(sum(candidate.per_class[label]["n"] for label in shared.classes))
    return f"on the {shared.n} of {n} test images that the champion did not learn from, " if shared.n < n else ""


def _improvement(candidate: Evaluation, champion: Evaluation, evidence: Evidence, rule: Promotion, where: str) -> Check:
    promote, verdict = judge(evidence, rule)
    ours, theirs = (float(getattr(model, rule.metric)) for model in (candidate, champion))
    return Check(
        rule="min_improvement",
        value=f"{rule.metric} {ours:.4f} against {theirs:.4f}: {evidence.gain:+.4f}",
        bound=f"{rule.min_improvement:+.4f}, {rule.how_sure.replace('_', ' ')}",
        verdict="passed" if promote else "failed",
        reason=f"{where}{rule.metric} {ours:.4f} against the champion's {theirs:.4f}: a gain of {evidence.gain:+.4f} "
        f"{verdict} the required {rule.min_improvement:+.4f}; {evidence}",
    )


def _worse_parts(
    candidate: Evaluation, champion: Evaluation, rule: Promotion, traits: Mapping[str, Traits] | None
) -> Check:
    """No class and no slice in which the candidate is clearly worse."""
    judged = parts(candidate, champion, rule.cuts, traits)
    worse, small = clearly_worse(judged, ALPHA), too_small(judged, ALPHA)
    asked = {"rule": "worse_classes", "bound": f"none clearly, by a test at {100 * ALPHA:g} %"}
    if worse:
        found = [
            f"{part.name} (of {part.n} test images {len(part.lost)} are now wrong that were right, {part.won} the "
            f"other way; p = {p:.2g})"
            for part, p in worse
        ]
        lost = dict.fromkeys(name for part, _ in worse for name in part.lost)
        reason = f"it is clearly worse in {_few(found)}; now wrong: {_few(list(lost))}"
        verdict: Verdict = "failed" if rule.worse_classes == "fail" else "warned"
        return Check(value=_few(found), verdict=verdict, reason=reason, **asked)
    some = {
        "no test image is in": [part.name for part in small if not part.n],
        "too few test images to tell in": [part.name for part in small if part.n],
    }
    hidden = "; ".join(f"{what} {_few(names)}" for what, names in some.items() if names)
    if len(small) == len(judged):
        return Check(value=hidden, verdict="not judged", reason=hidden, **asked)
    return Check(value=f"none; {hidden}" if small else "none", verdict="passed", reason="", **asked)


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def judge(evidence: Evidence, rule: Promotion) -> tuple[bool, str]:
    """Promote or not, and the verb between gain and required gain."""
    required = rule.min_improvement - ROUNDING
    reached = evidence.gain >= required
    if rule.how_sure == "clearly_better":
        # A gain that may be a loss needs no proof that there is a difference at all.
        clear = reached and evidence.low >= required and (rule.min_improvement < 0 or evidence.significant)
        return clear, "clearly reaches" if clear else "does not clearly reach"
    if rule.how_sure == "not_clearly_worse" and not reached:
        if evidence.n < TELLING:
            return False, f"misses, by only {evidence.n} test images, which can make nothing clear,"
        clear = evidence.high < required and (rule.min_improvement > 0 or evidence.significant)
        return not clear, "clearly misses" if clear else "does not clearly miss"
    return reached, "reaches" if reached else "misses"


def _invalid(evaluation: Evaluation) -> str:
    """Why these numbers cannot be what a model scored; empty when they can."""
    scores = {name: getattr(evaluation, name) for name in ("accuracy", "macro_f1", "log_loss", "calibration_error")}
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
