"""Promote only what is measurably good enough, on the same images."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from retraining.promotion import Evaluation, ScoreError, decide, evaluate
from retraining.recipe import Promotion

CLASSES = ["cat", "dog"]
EXPECTED = {"cat/1": "cat", "cat/2": "cat", "dog/1": "dog", "dog/2": "dog"}
ANSWERS = {"cat/1": [0.9, 0.1], "cat/2": [0.4, 0.6], "dog/1": [0.2, 0.8], "dog/2": [0.1, 0.9]}


def evaluation(accuracy: float, **changes: Any) -> Evaluation:
    values = {"test_digest": "d", "n": 100, "accuracy": accuracy, "macro_f1": accuracy, "log_loss": 1 - accuracy}
    return Evaluation(**(values | changes), per_class={}, confusion=[])


def test_scores_are_those_of_the_textbook() -> None:
    scored = evaluate(CLASSES, EXPECTED, ANSWERS, "d")
    assert scored.accuracy == 0.75
    assert scored.confusion == [[1, 1], [0, 2]]
    assert scored.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)
    assert scored.log_loss == pytest.approx(-sum(map(math.log, (0.9, 0.4, 0.8, 0.9))) / 4)
    assert scored.per_class["dog"] == {
        "precision": pytest.approx(2 / 3),
        "recall": 1.0,
        "f1": pytest.approx(0.8),
        "n": 2,
    }


def test_another_class_order_of_the_model_changes_nothing() -> None:
    turned = {image: probabilities[::-1] for image, probabilities in ANSWERS.items()}
    assert evaluate(CLASSES, EXPECTED, turned, "d", ["dog", "cat"]) == evaluate(CLASSES, EXPECTED, ANSWERS, "d")


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        (
            {k: v for k, v in ANSWERS.items() if k != "cat/2"},
            r"3 answers for 4 test images: 1 missing \(first \['cat/2'\]",
        ),
        (ANSWERS | {"cow/1": [0.5, 0.5]}, r"5 answers for 4 test images: .* 1 for other images \(first \['cow/1'\]"),
        (ANSWERS | {"cat/1": [0.9]}, r"cat/1: 2 finite probabilities are needed"),
        (ANSWERS | {"cat/1": [0.9, float("nan")]}, r"cat/1: 2 finite probabilities are needed"),
    ],
)
def test_answers_that_are_not_of_the_test_set_are_refused(answers: dict[str, list[float]], complaint: str) -> None:
    with pytest.raises(ScoreError, match=complaint):
        evaluate(CLASSES, EXPECTED, answers, "d")


def test_other_classes_cannot_be_compared() -> None:
    with pytest.raises(ScoreError, match="the test set has"):
        evaluate(CLASSES, EXPECTED, ANSWERS, "d", ["cat", "cow"])


@pytest.mark.parametrize(
    ("candidate", "champion", "rule", "promote", "reason"),
    [
        (0.95, None, {"min_value": 0.9}, True, "there is no champion yet"),
        (0.85, None, {"min_value": 0.9}, False, "0.8500 is below the smallest value that may serve, 0.9000"),
        (0.95, 0.95, {}, True, r"a gain of \+0.0000 reaches the required \+0.0000"),
        (0.94, 0.95, {}, False, r"a gain of -0.0100 misses the required \+0.0000"),
        (0.96, 0.95, {"min_improvement": 0.02}, False, r"\+0.0100 misses the required \+0.0200"),
        (0.96, 0.95, {"metric": "log_loss"}, True, r"log_loss 0.0400 against the champion's 0.0500"),
        (0.96, 0.99, {"metric": "log_loss"}, False, r"a gain of -0.0300 misses"),
    ],
)
def test_the_gate(candidate: float, champion: float | None, rule: dict[str, Any], promote: bool, reason: str) -> None:
    decision = decide(evaluation(candidate), evaluation(champion) if champion else None, Promotion(**rule))
    assert decision.promote is promote

    assert re.search(reason, decision.reason)


@pytest.mark.parametrize("other", [{"test_digest": "other"}, {"n": 99}])
def test_different_test_sets_keep_the_champion(other: dict[str, Any]) -> None:
    decision = decide(evaluation(0.99), evaluation(0.5, **other), Promotion())
    assert not decision.promote
    assert "different test sets" in decision.reason
