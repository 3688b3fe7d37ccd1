import math
import re

import pytest

from training import metrics
from training.progress import Progress
from training.settings import Selection

VALUES = {name: i / 10 for i, name in enumerate(metrics.NAMES)}


@pytest.mark.parametrize("line", [metrics.epoch_line(3, 6, VALUES, 812.34), metrics.best_line(3, 6, VALUES)])
def test_lines_carry_every_metric(line):
    found = {name: float(re.search(f"{name}=([0-9.eE+-]+)", line).group(1)) for name in metrics.NAMES}
    assert found == VALUES


def test_epoch_line_is_the_documented_one():
    assert metrics.epoch_line(3, 6, VALUES, 812.34) == (
        "epoch=3/6 train:loss=0.0000 train:accuracy=0.1000 train:macro_f1=0.2000 train:precision=0.3000 "
        "train:recall=0.4000 validation:loss=0.5000 validation:accuracy=0.6000 validation:macro_f1=0.7000 "
        "validation:precision=0.8000 validation:recall=0.9000 images_per_second=812.3"
    )


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (3.8e-6, "0.000003800"),
        (0.0123456, "0.01235"),
        (2.5, "2.5000"),
        (0.0, "0.0000"),
        (40, "40.0000"),
    ],
)
def test_small_losses_keep_their_digits(loss, text):
    """Trials of a search are compared by what is printed; and every pattern reads digits and a point."""
    line = metrics.best_line(1, 2, VALUES | {"validation:loss": loss})
    assert f"validation:loss={text} " in line
    assert re.search("validation:loss=([0-9.]+)", line)[1] == text
    assert "validation:loss=nan " in metrics.best_line(1, 2, VALUES | {"validation:loss": float("nan")})


def test_scores_count_each_class_alike():
    scores = metrics.scores([0, 0, 0, 0, 1], [0, 0, 0, 0, 0], 2)
    assert scores["accuracy"] == 0.8
    assert scores["macro_f1"] == pytest.approx((2 * 4 / 9 + 0) / 2)
    assert (scores["precision"], scores["recall"]) == (pytest.approx(0.4), 0.5)
    assert scores["f1"] == 0.0  # of the second class, which nobody predicted


def test_scores_are_scikit_learns():
    """Worked out with sklearn.metrics 1.9: precision_recall_fscore_support(average="macro", zero_division=0)."""
    labels, predictions = [0, 0, 1, 1, 1, 2, 2, 2, 2, 2], [0, 1, 1, 1, 2, 2, 2, 2, 0, 1]
    scores = metrics.scores(labels, predictions, 3)
    assert scores == pytest.approx(
        {"accuracy": 0.6, "precision": 0.58333333, "recall": 0.58888889, "macro_f1": 0.57936508}, abs=1e-6
    )


@pytest.mark.parametrize(
    ("objective", "better"),
    [("validation:accuracy", "a"), ("validation:loss", "b"), ("validation:macro_f1", "b"), ("validation:f1", "a")],
)
def test_the_best_epoch_is_best_in_the_objective(objective, better):
    a = {"validation:accuracy": 0.9, "validation:loss": 0.5, "validation:macro_f1": 0.7, "validation:f1": 0.8}
    b = {"validation:accuracy": 0.8, "validation:loss": 0.4, "validation:macro_f1": 0.75, "validation:f1": 0.7}
    assert metrics.better(a, b, objective) == (better == "a")
    assert metrics.better(b, a, objective) == (better == "b")


def test_of_equal_epochs_the_lower_loss_is_better():
    a = {"validation:accuracy": 0.9, "validation:loss": 0.5}
    assert metrics.better(a | {"validation:loss": 0.4}, a, "validation:accuracy")
    assert not metrics.better(a, a, "validation:accuracy")


@pytest.mark.parametrize("objective", metrics.OBJECTIVES)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["validation:loss", "train:loss", "validation:f1"])
def test_an_epoch_without_numbers_is_never_better(objective, broken, where):
    good = VALUES | {"validation:f1": 0.5}
    bad = good | {where: broken}
    assert not metrics.better(bad, good, objective)
    assert metrics.better(good, bad, objective)
    assert not metrics.better(bad, bad, objective) and not metrics.better(bad, None, objective)
    assert metrics.nonfinite(bad | {"images_per_second": math.inf}) == [where]


def test_small_gains_add_up_to_one():
    """As in Keras and Lightning: an epoch is compared with the last one that counted, not with the best."""
    settings, progress = Selection(objective="validation:loss", min_delta=0.01, patience=3), Progress()
    stale = []
    for epoch in range(12):
        progress.epoch += 1
        progress.add(VALUES | {"validation:loss": 1 - 0.006 * epoch}, settings)
        stale.append(progress.stale)
    assert stale == [0, 1] * 6 and not progress.exhausted(settings)
    for _ in range(3):
        progress.add(VALUES | {"validation:loss": 0.95}, settings)
    assert progress.exhausted(settings)


def test_a_broken_epoch_neither_becomes_the_best_nor_stays_it():
    settings = Selection(objective="validation:loss", min_delta=0.0, patience=2)
    progress, broken = Progress(), VALUES | {"validation:loss": math.nan}
    assert not progress.add(broken, settings) and progress.best is None and progress.stale == 1
    assert progress.add(VALUES, settings) and progress.stale == 0
    assert not progress.add(broken, settings) and not progress.add(broken, settings)
    assert progress.best["validation:loss"] == 0.5 and progress.exhausted(settings)
    progress.best = broken  # as an earlier release may have kept it
    assert progress.add(VALUES, settings)
