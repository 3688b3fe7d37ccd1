"""Trials as lines over parallel axes: what a search looked at, and what it began from."""

from __future__ import annotations

from typing import Any

import pytest

from retraining.page.panels import PANELS
from retraining.page.parallel import AXES, parallel
from tests.page.runs import documents
from tests.page.served import DIGITS, HOSTILE


def trial(name: str, objective: float | None = 0.5, **values: str) -> dict[str, Any]:
    return {"name": name, "objective": objective, "hyperparameters": values}


def test_inherited_trials_are_marked_and_the_best_comes_last() -> None:
    panel = next(panel for panel in PANELS if panel.key == "tuning")
    chart = (panel.view(documents(DIGITS)) or {})["chart"]
    assert [line["kind"] for line in chart["lines"]] == ["inherited"] * 4 + ["own"] * 3 + ["best"]
    assert [(axis["name"], axis["kind"]) for axis in chart["axes"]] == [
        ("batch_size", "linear"), ("lr", "logarithmic"), ("optimizer", "choice"), ("objective", "linear"),
    ]  # fmt: skip


def test_a_trial_without_an_objective_ends_before_it() -> None:
    chart = parallel([trial("a", lr="1"), trial("b", 0.7, lr="2"), trial("c", None, lr="3")], [], "b")
    assert chart
    assert {line["name"]: len(line["points"]) for line in chart["lines"]} == {"a": 2, "b": 2, "c": 1}


@pytest.mark.parametrize(
    "trials",
    [[], [trial("a", lr="1")], [trial("a", lr="1"), trial("b", lr="1.0")], [trial("a"), trial("b", 0.9)]],
    ids=["none", "one", "the same", "no values"],
)
def test_where_nothing_differs_nothing_is_drawn(trials: list[dict[str, Any]]) -> None:
    assert parallel(trials, [], "a") is None


def test_strange_values_have_a_place() -> None:
    values = [*HOSTILE, "nan", "inf", "-1", "0", "1e400"]
    chart = parallel([trial(str(place), place, x=value) for place, value in enumerate(values)], [], "0")
    assert chart and len(chart["lines"]) == len(values)
    many = {f"p{place}": "1" for place in range(AXES + 5)}
    wide = parallel([trial("a", 0.1, **many), trial("b", 0.2, **dict.fromkeys(many, "2"))], [], "a")
    assert wide and len(wide["axes"]) == AXES + 1
