"""How sure a model was beside how often it was right, in numbers that do not grow with the images."""

from __future__ import annotations

import json
import random

import pytest

from retraining.promotion.certainty import BINS, THRESHOLDS, certainty
from retraining.promotion.scores import calibration_error
from tests.plugins.scored import scored


def test_a_threshold_tells_how_many_are_answered_and_right() -> None:
    found = certainty([0.5, 0.9, 0.9, 0.995, 1.0], [False, True, False, True, True])
    told = {threshold: (answered, right) for threshold, answered, right in found["thresholds"]}
    assert [told[at] for at in (0.0, 0.5, 0.51, 0.9, 0.99, 0.995, 0.999)] == [
        (5, 3), (5, 3), (4, 3), (4, 3), (2, 2), (2, 2), (1, 1),
    ]  # fmt: skip


def test_the_bins_make_the_calibration_error() -> None:
    dice = random.Random(3)
    sures = [dice.random() for _ in range(5000)]
    right = [dice.random() < sure**2 for sure in sures]
    bins = certainty(sures, right)["bins"]
    assert sum(count for count, _, _ in bins) == 5000
    gaps = sum(abs(count * sure - good) for count, sure, good in bins)
    assert gaps / 5000 == pytest.approx(calibration_error(sures, right), abs=1e-5)


def test_it_is_as_small_for_many_images() -> None:
    found = scored("ab" * 5000, "ab" * 5000).as_dict()["certainty"]
    assert (len(found["bins"]), len(found["thresholds"])) == (BINS, len(THRESHOLDS))
    assert len(json.dumps(found)) < 4000
