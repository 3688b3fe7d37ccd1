"""The numbers a training job is judged by, and the lines that carry them to SageMaker.

SageMaker reads metrics from the log with regular expressions such as `validation:accuracy=([0-9.eE+-]+)`; the pipeline
that sets them is another program, so tests/contract holds the two together. Standard library only.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCORES = ("loss", "accuracy", "macro_f1", "precision", "recall")
NAMES = tuple(f"{phase}:{score}" for phase in ("train", "validation") for score in SCORES)
BINARY_NAMES = ("validation:f1",)
"""Printed as well when there are two classes: of the second one, which medical sets call positive."""

OBJECTIVES = {  # metric -> +1: more is better, -1: less is better
    "validation:accuracy": 1,
    "validation:macro_f1": 1,
    "validation:f1": 1,
    "validation:loss": -1,
}


def scores(labels: Sequence[int], predictions: Sequence[int], num_classes: int) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 as means over the classes that occur at all, each class counting alike.

    A class that nobody predicts has precision 0, as in scikit-learn with zero_division=0.
    """
    hits = Counter(label for label, guess in zip(labels, predictions, strict=True) if label == guess)
    actual, guessed = Counter(labels), Counter(predictions)
    classes = actual.keys() | guessed.keys()
    f1 = {wanted: 2 * hits[wanted] / (actual[wanted] + guessed[wanted]) for wanted in classes}
    result = {
        "accuracy": sum(hits.values()) / len(labels),
        "macro_f1": sum(f1.values()) / len(classes),
        "precision": sum(hits[wanted] / (guessed[wanted] or 1) for wanted in classes) / len(classes),
        "recall": sum(hits[wanted] / (actual[wanted] or 1) for wanted in classes) / len(classes),
    }
    return result | ({"f1": f1.get(1, 0.0)} if num_classes == 2 else {})


def better(values: Mapping[str, float], best: Mapping[str, float] | None, objective: str) -> bool:
    """Whether an epoch is better than the best so far; of equal ones the lower loss is. No `best`: none was good yet.

    Never one with a metric that is not a finite number.
    """
    return rank(values, objective) > rank(best, objective)


def rank(values: Mapping[str, float] | None, objective: str) -> tuple[float, float]:
    if not values or nonfinite(values):
        return -math.inf, -math.inf  # below every number
    return OBJECTIVES[objective] * values[objective], -values["validation:loss"]


def nonfinite(values: Mapping[str, float]) -> list[str]:
    """The names of the metrics that are NaN or infinite."""
    return [name for name, value in values.items() if ":" in name and not math.isfinite(value)]


def epoch_line(epoch: int, epochs: int, values: Mapping[str, float], images_per_second: float) -> str:
    return f"epoch={epoch}/{epochs} {metric_text(values)} images_per_second={images_per_second:.1f}"


def best_line(epoch: float, epochs: int, values: Mapping[str, float]) -> str:
    """Printed last: SageMaker takes a metric's last value as the job's result, so it must be the best epoch's."""
    return f"best epoch={epoch}/{epochs} {metric_text(values)}"


def metric_text(values: Mapping[str, float]) -> str:
    return " ".join(f"{name}={decimal(values[name])}" for name in (*NAMES, *BINARY_NAMES) if name in values)


def decimal(value: float) -> str:
    """Four decimals, and as many more as four significant digits take; never an exponent, which some patterns miss."""
    decimals = 3 - math.floor(math.log10(abs(value))) if value and math.isfinite(value) else 0
    return f"{value:.{max(4, decimals)}f}"
