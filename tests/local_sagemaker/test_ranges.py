"""Ranges: what is drawn where, what is refused, and what Autotune makes of a hint."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest

from local_sagemaker.tuning import ranges
from local_sagemaker.tuning.ranges import Continuous, Integer
from local_sagemaker.wire.errors import ApiError

POSITIONS = [(index + 0.5) / 1000 for index in range(1000)]


def continuous(low: str, high: str, scaling: str = "Auto") -> ranges.Range:
    item = {"Name": "x", "MinValue": low, "MaxValue": high, "ScalingType": scaling}
    return ranges.parse({"ContinuousParameterRanges": [item]})[0]


def integer(low: str, high: str, scaling: str = "Auto") -> ranges.Range:
    item = {"Name": "n", "MinValue": low, "MaxValue": high, "ScalingType": scaling}
    return ranges.parse({"IntegerParameterRanges": [item]})[0]


@pytest.mark.parametrize(
    ("item", "median"),
    [
        (continuous("0", "10", "Linear"), 5),
        (continuous("0.001", "10", "Logarithmic"), 0.1),
        (continuous("0", "0.9999", "ReverseLogarithmic"), 0.99),  # 1 - 0.01: half of the way from 1 to 0.0001
        (continuous("0.5", "0.995", "ReverseLogarithmic"), 0.95),
        (continuous("0.001", "10"), 0.1),  # Auto: over two orders of magnitude
        (continuous("1", "9"), 5),
        (continuous("-1", "1000"), 499.5),
        (integer("1", "1000", "Logarithmic"), 22),
        (integer("1", "9", "Linear"), 5),
    ],
)
def test_middle_of_the_axis_is_the_middle_of_the_scale(item: ranges.Range, median: float) -> None:
    assert float(item.text(0.5)) == pytest.approx(median, rel=0.01)
    assert statistics.median(float(item.text(position)) for position in POSITIONS) == pytest.approx(median, rel=0.02)


@pytest.mark.parametrize(
    "item",
    [
        continuous("-3", "7"),
        continuous("0.00001", "1", "Logarithmic"),
        continuous("0", "0.999", "ReverseLogarithmic"),
        integer("-5", "5"),
        integer("1", "100000", "Logarithmic"),
        ranges.parse({"CategoricalParameterRanges": [{"Name": "k", "Values": ["a", "b c", ""]}]})[0],
    ],
)
def test_position_of_a_value_gives_the_value_again(item: ranges.Range) -> None:
    for position in [0.0, *POSITIONS, math.nextafter(1, 0)]:
        text = item.text(position)
        assert item.holds(text)
        if item.count < math.inf:
            assert item.text(item.position(text)) == text
        else:
            assert item.position(text) == pytest.approx(position, abs=1e-6)


def test_every_integer_is_as_likely_as_the_next_on_a_linear_scale() -> None:
    drawn = [integer("1", "4", "Linear").text(position) for position in POSITIONS]
    assert {text: drawn.count(text) for text in set(drawn)} == {"1": 250, "2": 250, "3": 250, "4": 250}


def test_sampled_values_are_written_as_sagemaker_writes_them() -> None:
    assert integer("1", "9").text(0.5) == "5"
    assert continuous("0", "0.5").text(0.25) == "0.125"


@pytest.mark.parametrize(
    ("hint", "low", "high", "scaling"),
    [
        ("32", 8, 128, "Logarithmic"),
        ("1", 1, 4, "Logarithmic"),
        ("0", 0, 10, "Linear"),
        ("-8", -32, -2, "Linear"),
        ("0.001", 0.0001, 0.01, "Logarithmic"),
        ("0.9", 0.3, 1 - 0.1 / 3, "Linear"),
        ("0.0", 0.0, 1.0, "Linear"),
        ("2.5", 0.25, 25, "Logarithmic"),
        ("-0.5", -5, -0.05, "Linear"),
    ],
)
def test_autotune_searches_around_its_hint(hint: str, low: float, high: float, scaling: str) -> None:
    item = ranges.around("x", hint)
    assert isinstance(item, Continuous | Integer)
    assert (item.low, item.high, item.scaling) == (pytest.approx(low), pytest.approx(high), scaling)
    assert item.holds(hint)


def test_autotune_tries_both_of_true_and_false() -> None:
    assert list(ranges.around("nesterov", "true").texts()) == ["true", "false"]


@pytest.mark.parametrize(
    ("member", "item", "said"),
    [
        ("Continuous", {"MinValue": "1", "MaxValue": "0"}, "less than"),
        ("Continuous", {"MinValue": "1", "MaxValue": "1"}, "belongs to StaticHyperParameters"),
        ("Continuous", {"MinValue": "0", "MaxValue": "1", "ScalingType": "Logarithmic"}, "needs MinValue > 0"),
        ("Continuous", {"MinValue": "0", "MaxValue": "1", "ScalingType": "ReverseLogarithmic"}, "within 0 <= x < 1"),
        ("Integer", {"MinValue": "0", "MaxValue": "1", "ScalingType": "ReverseLogarithmic"}, "continuous ranges"),
        ("Continuous", {"MinValue": "a", "MaxValue": "1"}, "must both be numbers"),
        ("Continuous", {"MinValue": "nan", "MaxValue": "1"}, "must both be numbers"),
        ("Continuous", {"MinValue": "0", "MaxValue": "1e999"}, "not beyond 1e"),
        ("Continuous", {"MinValue": "1_0", "MaxValue": "20"}, "must both be numbers"),
        ("Integer", {"MinValue": "1", "MaxValue": "9" * 200}, "not beyond 1e"),
        ("Integer", {"MinValue": "1.5", "MaxValue": "3"}, "must both be integers"),
        ("Categorical", {"Values": ["a", "a"]}, "must differ"),
        ("Categorical", {"Values": [str(index) for index in range(31)]}, "at most 30 Values, got 31"),
    ],
)
def test_impossible_range_is_refused(member: str, item: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        ranges.parse({f"{member}ParameterRanges": [{"Name": "x"} | item]})


def test_names_are_unique_and_at_most_thirty() -> None:
    item = {"MinValue": "0", "MaxValue": "1"}
    with pytest.raises(ApiError, match="repeated: x"):
        ranges.parse({f"{kind}ParameterRanges": [{"Name": "x"} | item] for kind in ("Continuous", "Integer")})
    many = [{"Name": f"x{index}"} | item for index in range(16)]
    others = [{"Name": f"n{index}"} | item for index in range(15)]
    with pytest.raises(ApiError, match="at most 30 hyperparameters can be searched, got 31"):
        ranges.parse({"ContinuousParameterRanges": many, "IntegerParameterRanges": others})
