"""A model is scored by its answers to exactly the test images, and by nothing that only looks like answers."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from retraining.promotion.scores import ScoreError, evaluate

CLASSES = ["cat", "dog"]
EXPECTED = {"cat/1": "cat", "cat/2": "cat", "dog/1": "dog", "dog/2": "dog"}
ANSWERS: dict[str, Any] = {"cat/1": [0.9, 0.1], "cat/2": [0.4, 0.6], "dog/1": [0.2, 0.8], "dog/2": [0.1, 0.9]}


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


def test_another_order_of_the_answers_changes_nothing() -> None:
    turned = dict(reversed(EXPECTED.items())), dict(reversed(ANSWERS.items()))
    assert evaluate(CLASSES, *turned, "d") == evaluate(CLASSES, EXPECTED, ANSWERS, "d")


def test_the_stored_form_leaves_out_the_single_images() -> None:
    stored = evaluate(CLASSES, EXPECTED, ANSWERS, "d").as_dict()
    assert json.loads(json.dumps(stored))["confusion"] == [[1, 1], [0, 2]]
    assert "outcomes" not in stored


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
        (ANSWERS | {"cat/1": [0.9, None]}, r"cat/1: 2 probabilities are needed, the model gave \[0.9, None\]"),
        (ANSWERS | {"cat/1": 0.9}, r"cat/1: 2 probabilities are needed, the model gave 0.9"),
        (ANSWERS | {"cat/1": [4.5, -1.2]}, r"cat/1: probabilities lie between 0 and 1 and add up to 1; .* make 3.3"),
        (ANSWERS | {"cat/1": [1.0, 1.0]}, r"cat/1: probabilities lie between 0 and 1 and add up to 1; .* make 2"),
    ],
)
def test_answers_that_are_not_of_the_test_set_are_refused(answers: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ScoreError, match=complaint):
        evaluate(CLASSES, EXPECTED, answers, "d")


def test_other_classes_cannot_be_compared() -> None:
    with pytest.raises(ScoreError, match="the test set has"):
        evaluate(CLASSES, EXPECTED, ANSWERS, "d", ["cat", "cow"])
