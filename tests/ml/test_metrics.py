import re

import pytest

import metrics

VALUES = {name: 0.5 + i / 10 for i, name in enumerate(metrics.NAMES)}


@pytest.mark.parametrize("line", [metrics.epoch_line(3, 6, VALUES, 812.34), metrics.best_line(3, 6, VALUES)])
def test_lines_carry_every_metric(line):
    found = {name: float(re.search(f"{name}=([0-9.eE+-]+)", line).group(1)) for name in metrics.NAMES}
    assert found == VALUES


def test_epoch_line_is_the_documented_one():
    assert metrics.epoch_line(3, 6, VALUES, 812.34) == (
        "epoch=3/6 train:loss=0.5000 train:accuracy=0.6000 validation:loss=0.7000 validation:accuracy=0.8000 "
        "validation:macro_f1=0.9000 images_per_second=812.3"
    )


def test_macro_f1_counts_each_class_alike():
    labels, predictions = [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]
    assert metrics.accuracy(labels, predictions) == 0.8
    assert metrics.macro_f1(labels, predictions) == pytest.approx((2 * 4 / 9 + 0) / 2)
