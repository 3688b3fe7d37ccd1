"""What a model's answers to the test images are worth: scores, confusions, and what became of each image."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from retraining.promotion.certainty import BINS, bin_of, certainty

# A model that gives the right class no chance at all would have an infinite log loss.
SMALLEST_PROBABILITY = 1e-15
# Probabilities computed in bfloat16 add up to 1 within half a percent.
SUM_TOLERANCE = 0.02


class ScoreError(ValueError):
    """The answers do not belong to the test set; no decision may rest on them."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What became of each test image, in the order of their names: the same order for every model."""

    names: tuple[str, ...]
    truths: tuple[int, ...]
    """The right class, as its position in the dataset's order."""
    answered: tuple[int, ...]
    """The same; the number of classes where the model answered one that is none of them."""
    losses: tuple[float, ...]
    """-ln(probability of the right class)."""


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
    calibration_error: float
    """By how much the model's certainty differs from how often it is right; 0 to 1."""
    certainty: dict[str, Any] = field(repr=False)
    """The same in detail, for people: see `certainty`."""
    classes: tuple[str, ...]
    per_class: dict[str, dict[str, float]]
    """Class → precision, recall, f1, n."""
    confusion: list[list[int]]
    """Rows: true class, columns: answered class, both in the dataset's order. Without answers of other classes."""
    outcomes: Outcomes = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the single images."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "outcomes"}

    def summary(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("accuracy", "macro_f1", "log_loss", "n")}


def evaluate(
    classes: Sequence[str],
    expected: Mapping[str, str],
    answers: Mapping[str, Sequence[float]],
    test_digest: str,
    answer_classes: Sequence[str] | None = None,
) -> Evaluation:
    """Score the answers of a batch transform job.

    `expected` maps each test image to its class, `answers` maps it to the probabilities the model gave, in the order
    of `answer_classes` (default: the dataset's own order), which may be more than `classes`: to answer one of those is
    wrong. ScoreError when the two do not match one to one.
    """
    _check_complete(expected, answers)
    order = _class_order(classes, answer_classes or classes)
    positions = {label: position for position, label in enumerate(classes)}
    names = tuple(sorted(expected))
    truths = tuple(positions[expected[name]] for name in names)
    confusion = [[0] * len(classes) for _ in classes]
    answered, losses, certainties = [], [], []
    for name, truth in zip(names, truths, strict=True):
        given = answers[name]
        _check_probabilities(name, given, len(answer_classes or classes))
        probabilities = [given[position] for position in order]
        surest = max(given)
        answered.append(probabilities.index(surest) if surest in probabilities else len(classes))
        if answered[-1] < len(classes):
            confusion[truth][answered[-1]] += 1
        certainties.append(surest)
        losses.append(-math.log(max(probabilities[truth], SMALLEST_PROBABILITY)))
    per_class = _class_scores(classes, confusion, Counter(truths))
    right = [answer == truth for answer, truth in zip(answered, truths, strict=True)]
    n = len(names)
    return Evaluation(
        test_digest=test_digest,
        n=n,
        accuracy=sum(confusion[i][i] for i in range(len(classes))) / n,
        macro_f1=sum(scores["f1"] for scores in per_class.values()) / len(classes),
        log_loss=sum(losses) / n,
        calibration_error=calibration_error(certainties, right),
        certainty=certainty(certainties, right),
        classes=tuple(classes),
        per_class=per_class,
        confusion=confusion,
        outcomes=Outcomes(names=names, truths=truths, answered=tuple(answered), losses=tuple(losses)),
    )


def calibration_error(certainties: Sequence[float], right: Sequence[bool]) -> float:
    """The expected calibration error over bins of equal width (Guo et al. 2017, arXiv:1706.04599, formula 5).

    `certainties` are the probabilities of the answered classes. A bin's error is how far their mean is from the share
    of right answers in it; the bins count by their images.
    """
    gaps = [0.0] * BINS
    for sure, is_right in zip(certainties, right, strict=True):
        gaps[bin_of(sure)] += sure - is_right
    return sum(map(abs, gaps)) / len(certainties)


def _check_complete(expected: Mapping[str, str], answers: Mapping[str, Any]) -> None:
    if not expected:
        raise ScoreError("the test set is empty")
    missing, foreign = sorted(expected.keys() - answers.keys()), sorted(answers.keys() - expected.keys())
    if missing or foreign:
        raise ScoreError(
            f"{len(answers)} answers for {len(expected)} test images: {len(missing)} missing (first {missing[:3]}), "
            f"{len(foreign)} for other images (first {foreign[:3]})"
        )


def _check_probabilities(name: str, given: Sequence[float], number: int) -> None:
    """Scores that are no probabilities (logits, one 1 for each class) would make a log loss that means nothing."""
    try:
        complete = len(given) == number and all(map(math.isfinite, given))
    except (TypeError, OverflowError):  # no list, or texts and nulls in it
        raise ScoreError(f"{name}: {number} probabilities are needed, the model gave {str(given)[:200]}") from None
    if not complete:
        raise ScoreError(f"{name}: {number} finite probabilities are needed, the model gave {list(given)[:10]!r}")
    if min(given) < 0 or abs(sum(given) - 1) > SUM_TOLERANCE:
        raise ScoreError(
            f"{name}: probabilities lie between 0 and 1 and add up to 1; the model gave {list(given)[:10]!r}, "
            f"which make {sum(given):.4g}"
        )


def _class_order(classes: Sequence[str], answer_classes: Sequence[str]) -> list[int]:
    """For each of the dataset's classes, its position in the model's answer."""
    if not set(classes) <= set(answer_classes):
        raise ScoreError(
            f"the model knows the classes {list(answer_classes)}, the test set has {list(classes)}: "
            "accuracies over different classes cannot be compared"
        )
    positions = {label: position for position, label in enumerate(answer_classes)}
    return [positions[label] for label in classes]


def _class_scores(
    classes: Sequence[str], confusion: list[list[int]], counts: Mapping[int, int]
) -> dict[str, dict[str, float]]:
    """`counts`: position of a class → its test images."""
    answered = [sum(column) for column in zip(*confusion, strict=True)]
    scores = {}
    for index, label in enumerate(classes):
        right, n = confusion[index][index], counts.get(index, 0)
        precision = right / answered[index] if answered[index] else 0.0
        recall = right / n if n else 0.0
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        scores[label] = {"precision": precision, "recall": recall, "f1": f1, "n": n}
    return scores
