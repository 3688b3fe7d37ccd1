"""What a rule judged is drawn to its own scale, with its threshold, up to where it fired."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from retraining.page.app import report_page
from retraining.page.evidence import evidence
from tests.page.runs import documents

DIGITS = [str(digit) for digit in range(10)]


def drawn(values: list[float | None], threshold: float | None = None, **changes: Any) -> dict[str, Any]:
    series = {"tensor": "t", "what": "loss", "steps": [*range(len(values))], "values": values, "threshold": threshold}
    chart = evidence(series | {"step": len(values) - 1} | changes)
    assert chart
    return chart


def shown(**changes: Any) -> str:
    return bytes(report_page(replace(documents(DIGITS), **changes)).body).decode()


def test_the_evidence_of_an_issue_is_drawn_beside_it() -> None:
    page = shown()
    rules = page[page.index('id="rules"') : page.index('id="certainty"')]
    assert rules.count('<figure class="evidence">') == 2 and rules.count('class="judged" points=') == 2
    assert "threshold 0.1<" in rules and "threshold 1e-07<" in rules
    assert '(<span class="mono">&lt;b&gt;gradient&lt;/b&gt;/ResNet_conv1.weight</span>), by step' in rules


def test_what_is_not_drawn_is_said_in_words() -> None:
    page = shown()
    assert page.count("SageMaker judged this rule itself") == 1
    assert page.count("follows no number from step to step") == 1


def test_a_run_of_before_says_nothing_of_drawings() -> None:
    page = shown(series=None)
    assert 'class="evidence"' not in page and "SageMaker judged" not in page


def test_a_threshold_stands_within_the_chart() -> None:
    for chart in (drawn([1.0, 2.0, 3.0], 9.0), drawn([1.0, 2.0], -4.0), drawn([5.0, 5.0], 5.0)):
        assert chart["top"] <= chart["limit"]["y"] <= chart["floor"]
        assert all(chart["top"] <= y <= chart["floor"] for line in chart["lines"] for _, y in line)


def test_powers_of_ten_are_told_apart() -> None:
    chart = drawn([1.0, 1e-3, 1e-9], 1e-7)
    assert [tick["value"] for tick in chart["ticks"]] == pytest.approx([1e-9, 1e-6, 1e-3, 1.0])
    assert chart["lines"][0][2][1] == chart["floor"] and chart["lines"][0][0][1] == chart["top"]


def test_what_is_no_number_interrupts_a_curve() -> None:
    chart = drawn([1.0, 2.0, None, 3.0, None])
    assert [len(line) for line in chart["lines"]] == [2, 1]
    assert chart["fired"]["y"] is None and chart["limit"] is None


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [-5.0, -5.0], [1e-12, 2e-12], [1e300, 1e-300]])
def test_any_values_have_a_scale(values: list[float | None]) -> None:
    chart = drawn(values)
    ticks = [tick["value"] for tick in chart["ticks"]]
    assert 2 <= len(ticks) <= 8 and ticks == sorted(set(ticks))


def test_hundreds_of_charts_of_strangers_numbers_do_not_break_a_page() -> None:
    for series in ({"steps": [0, 1], "values": ["nan", None]}, {"steps": [0, 1], "values": [1e308, -1e308]}, None):
        assert evidence(series) is None
    page = shown(series={"Overfit": {"steps": [True, 3], "values": [1, 2], "threshold": "x"}})
    assert re.search(r"<h1>", page)
