"""Is the candidate better than what serves? Measured on the same test images, through the same serving code.

Point estimates only: no confidence intervals yet, so on a small test set a tiny difference may be luck.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from retraining.recipe import Promotion

# A model that gives the right class no chance at all would have an infinite log loss.
SMALLEST_PROBABILITY = 1e-15


class ScoreError(ValueError):
    """The answers do not belong to the test set; no decision may rest on them."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One model on one test set."""

    test_digest: str
    """Fingerprint of the dataset version whose test split was scored."""
    n: int
    accuracy: float
    macro_f1: float
    log_loss: float
    """Mean of -ln(probability of the right class)."""
    per_class: dict[str, dict[str, float]]
    """Class → precision, recall, f1, n."""
    confusion: list[list[int]]
    """Rows: true class, columns: answered class, both in the dataset's order."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Decision:
    promote: bool
    reason: str


def evaluate(
    classes: Sequence[str],
    expected: Mapping[str, str],
    answers: Mapping[str, Sequence[float]],
    test_digest: str,
    answer_classes: Sequence[str] | None = None,
) -> Evaluation:
    """Score the answers of a batch transform job.

    `expected` maps each test image to its class, `answers` maps it to the probabilities the model gave, in the order
    of `answer_classes` (default: the dataset's own order). ScoreError when the two do not match one to one.
    """
    _check_complete(expected, answers)
    order = _class_order(classes, answer_classes or classes)
    confusion = [[0] * len(classes) for _ in classes]
    loss = 0.0
    for image, label in expected.items():
        given = answers[image]
        if len(given) != len(order) or not all(math.isfinite(p) for p in given):
            raise ScoreError(f"{image}: {len(order)} finite probabilities are needed, the model gave {list(given)!r}")
        probabilities = [given[position] for position in order]
        truth = classes.index(label)
        answered = max(range(len(classes)), key=probabilities.__getitem__)
        confusion[truth][answered] += 1
        loss -= math.log(max(probabilities[truth], SMALLEST_PROBABILITY))
    per_class = {label: _class_scores(confusion, index) for index, label in enumerate(classes)}
    n = len(expected)
    return Evaluation(
        test_digest=test_digest,
        n=n,
        accuracy=sum(confusion[i][i] for i in range(len(classes))) / n,
        macro_f1=sum(scores["f1"] for scores in per_class.values()) / len(classes),
        log_loss=loss / n,
        per_class=per_class,
        confusion=confusion,
    )


def decide(candidate: Evaluation, champion: Evaluation | None, rule: Promotion) -> Decision:
    """Promote the candidate or keep the champion, and why, in one sentence a person can check."""
    metric, ours = rule.metric, float(getattr(candidate, rule.metric))
    lower_is_better = metric == "log_loss"
    if rule.min_value is not None and (ours > rule.min_value if lower_is_better else ours < rule.min_value):
        side = "above the largest" if lower_is_better else "below the smallest"
        return Decision(
            promote=False, reason=f"{metric} {ours:.4f} is {side} value that may serve, {rule.min_value:.4f}"
        )
    if champion is None:
        return Decision(promote=True, reason=f"there is no champion yet, and {metric} {ours:.4f} is good enough")
    if champion.test_digest != candidate.test_digest or champion.n != candidate.n:
        return Decision(
            promote=False,
            reason=f"candidate and champion were scored on different test sets ({candidate.test_digest}, "
            f"{candidate.n} images; {champion.test_digest}, {champion.n} images)",
        )
    theirs = float(getattr(champion, metric))
    gain = theirs - ours if lower_is_better else ours - theirs
    # Differences far below one image of one million are rounding, not better or worse.
    promote = gain >= rule.min_improvement - 1e-9
    verb = "reaches" if promote else "misses"
    return Decision(
        promote=promote,
        reason=f"{metric} {ours:.4f} against the champion's {theirs:.4f} on {candidate.n} test images: "
        f"a gain of {gain:+.4f} {verb} the required {rule.min_improvement:+.4f}",
    )


def _check_complete(expected: Mapping[str, str], answers: Mapping[str, Any]) -> None:
    if not expected:
        raise ScoreError("the test set is empty")
    missing, foreign = sorted(expected.keys() - answers.keys()), sorted(answers.keys() - expected.keys())
    if missing or foreign:
        raise ScoreError(
            f"{len(answers)} answers for {len(expected)} test images: {len(missing)} missing (first {missing[:3]}), "
            f"{len(foreign)} for other images (first {foreign[:3]})"
        )


def _class_order(classes: Sequence[str], answer_classes: Sequence[str]) -> list[int]:
    """For each of the dataset's classes, its position in the model's answer."""
    if sorted(classes) != sorted(answer_classes):
        raise ScoreError(
            f"the model knows the classes {list(answer_classes)}, the test set has {list(classes)}: "
            "accuracies over different classes cannot be compared"
        )
    return [list(answer_classes).index(label) for label in classes]


def _class_scores(confusion: list[list[int]], index: int) -> dict[str, float]:
    right = confusion[index][index]
    n, answered = sum(confusion[index]), sum(row[index] for row in confusion)
    precision = right / answered if answered else 0.0
    recall = right / n if n else 0.0
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": precision, "recall": recall, "f1": f1, "n": n}
