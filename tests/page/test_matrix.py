"""A confusion matrix is read in the order of what is confused, to whatever number of classes."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from retraining.page.matrix import CELLS, MAP, TABLE, heat_map, level, mistakes, order, table
from retraining.page.panels import PANELS
from tests.page.runs import documents

PANEL = next(panel for panel in PANELS if panel.key == "confusions")


def view(n: int) -> Any:
    return PANEL.view(documents([f"{number:03}" for number in range(n)], each=4))


def test_a_matrix_is_a_table_to_twenty_classes_and_a_map_above() -> None:
    assert view(TABLE)["table"] and not view(TABLE)["map"]
    assert view(TABLE + 1)["map"] and not view(TABLE + 1)["table"]


def test_every_answer_is_in_the_table() -> None:
    rows = table(["a", "b"], [[8, 2], [0, 5]])
    assert [[cell["count"] for cell in row["cells"]] for row in rows] == [[8, 2], [0, 5]]
    assert [[cell["level"] for cell in row["cells"]] for row in rows] == [["right", 4], [0, "right"]]
    assert [row["of"] for row in rows] == [10, 5]


@pytest.mark.parametrize(
    ("count", "of", "dark"), [(0, 9, 0), (1, 100, 1), (2, 100, 2), (1, 10, 4), (1, 4, 5), (4, 4, 5)]
)
def test_a_cell_is_as_dark_as_its_share(count: int, of: int, dark: int) -> None:
    assert level(count, of) == dark


def test_classes_that_are_taken_for_each_other_stand_together() -> None:
    confusion = [[9, 0, 0, 3], [0, 9, 0, 0], [0, 0, 9, 0], [2, 0, 0, 9]]
    found = order(confusion)
    assert sorted(found) == [0, 1, 2, 3] and abs(found.index(0) - found.index(3)) == 1


def test_a_class_has_its_mistakes_most_often_first() -> None:
    assert mistakes(["a", "b", "c"], [[5, 1, 3], [0, 5, 0], [1, 0, 9]]) == [
        {"at": 0, "label": "a", "of": 9, "wrong": 4, "answers": [("c", 3), ("b", 1)]},
        {"at": 2, "label": "c", "of": 10, "wrong": 1, "answers": [("a", 1)]},
    ]


def test_the_largest_map_is_quick_and_bounded() -> None:
    chance = random.Random(1)
    confusion = [[chance.randrange(3) for _ in range(MAP)] for _ in range(MAP)]
    began = time.monotonic()
    drawn = heat_map([str(at) for at in range(MAP)], confusion)
    assert time.monotonic() - began < 10
    assert sum(len(row["cells"]) for row in drawn["rows"]) == CELLS and drawn["left_out"] > 0
    assert all(cell["x"] < drawn["width"] for row in drawn["rows"] for cell in row["cells"])
