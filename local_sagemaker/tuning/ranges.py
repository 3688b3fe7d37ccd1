"""The ranges of a tuning job: what each hyperparameter can be, laid out on an axis from 0 to 1.

The scaling lives here alone. Whatever is uniform on the axis is uniform in the scale the user asked for, so the search
strategies never see a logarithm: Linear is x, Logarithmic is log x, ReverseLogarithmic is -log(1 - x).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from local_sagemaker.wire.errors import validation

#: AWS's limits: hyperparameters searched in one definition, values of one categorical one, hyperparameters in all.
MAX_TUNABLES = 30
MAX_VALUES = 30
MAX_HYPERPARAMETERS = 100

#: Auto takes the logarithm of a positive range from this ratio of its bounds on: two orders of magnitude.
_LOGARITHMIC_RATIO = 100

_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_LARGEST = 1e18

# To the axis and back.
_AXES: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "Linear": (float, float),
    "Logarithmic": (math.log, math.exp),
    "ReverseLogarithmic": (lambda x: -math.log1p(-x), lambda y: -math.expm1(-y)),
}


class Range(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def count(self) -> float:
        """How many different values there are; infinity for a continuous range."""

    def text(self, position: float) -> str:
        """The value at a position on the axis, 0 <= position < 1, as a hyperparameter's text."""

    def position(self, text: str) -> float:
        """Where a value lies on the axis: the inverse of `text`, up to rounding."""

    def holds(self, text: str) -> bool: ...

    def texts(self) -> Iterable[str]:
        """Every value in order; raises TypeError for a continuous range."""


@dataclasses.dataclass(frozen=True)
class Continuous:
    name: str
    low: float
    high: float
    scaling: str

    @property
    def count(self) -> float:
        return math.inf

    def text(self, position: float) -> str:
        forward, back = _AXES[self.scaling]
        start, end = forward(self.low), forward(self.high)
        return repr(min(self.high, max(self.low, back(start + position * (end - start)))))

    def position(self, text: str) -> float:
        forward, _ = _AXES[self.scaling]
        start, end = forward(self.low), forward(self.high)
        return (forward(float(text)) - start) / (end - start)

    def holds(self, text: str) -> bool:
        return _is_number(text) and self.low <= float(text) <= self.high

    def texts(self) -> Iterable[str]:
        raise TypeError(f"range '{self.name}' is continuous: its values cannot be listed")


@dataclasses.dataclass(frozen=True)
class Integer:
    """Each value owns the part of the axis from half below it to half above it."""

    name: str
    low: int
    high: int
    scaling: str

    @property
    def count(self) -> float:
        return self.high - self.low + 1

    def text(self, position: float) -> str:
        forward, back = _AXES[self.scaling]
        start, end = forward(self.low - 0.5), forward(self.high + 0.5)
        return str(min(self.high, max(self.low, math.floor(back(start + position * (end - start)) + 0.5))))

    def position(self, text: str) -> float:
        forward, _ = _AXES[self.scaling]
        start, end = forward(self.low - 0.5), forward(self.high + 0.5)
        return (forward(int(float(text))) - start) / (end - start)

    def holds(self, text: str) -> bool:
        return _is_number(text) and float(text).is_integer() and self.low <= float(text) <= self.high

    def texts(self) -> Iterable[str]:
        return map(str, range(self.low, self.high + 1))


@dataclasses.dataclass(frozen=True)
class Categorical:
    """Its axis is cut into equal parts, one per value; their order means nothing."""

    name: str
    values: tuple[str, ...]

    @property
    def count(self) -> float:
        return len(self.values)

    def text(self, position: float) -> str:
        return self.values[min(len(self.values) - 1, int(position * len(self.values)))]

    def position(self, text: str) -> float:
        return (self.values.index(text) + 0.5) / len(self.values)

    def holds(self, text: str) -> bool:
        return text in self.values

    def texts(self) -> Iterable[str]:
        return self.values


def parse(parameter_ranges: dict[str, Any]) -> list[Range]:
    """ParameterRanges of a request. Raises a ValidationException naming the range and the rule it breaks."""
    ranges: list[Range] = []
    for item in parameter_ranges.get("ContinuousParameterRanges", []):
        low, high = _bounds(item, float)
        ranges.append(Continuous(item["Name"], low, high, _scaling(item, low, high, continuous=True)))
    for item in parameter_ranges.get("IntegerParameterRanges", []):
        low, high = _bounds(item, int)
        ranges.append(Integer(item["Name"], low, high, _scaling(item, low, high, continuous=False)))
    for item in parameter_ranges.get("CategoricalParameterRanges", []):
        ranges.append(_categorical(item))
    for item in parameter_ranges.get("AutoParameters", []):
        if _is_eligible(item):
            ranges.append(around(item["Name"], item["ValueHint"]))
    names = [item.name for item in ranges]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise validation(f"Hyperparameter ranges must have unique names; repeated: {', '.join(sorted(repeated))}.")
    if len(ranges) > MAX_TUNABLES:
        raise validation(f"ParameterRanges: at most {MAX_TUNABLES} hyperparameters can be searched, got {len(ranges)}.")
    return ranges


def kept(parameter_ranges: dict[str, Any]) -> dict[str, str]:
    """AutoParameters that are not eligible for Autotune, with their hints as values.

    SDK v2 sends all hyperparameters of an estimator, the toolkit's own among them.
    """
    given = parameter_ranges.get("AutoParameters", [])
    return {item["Name"]: item["ValueHint"] for item in given if not _is_eligible(item)}


def combinations(ranges: Iterable[Range]) -> float:
    """How many different hyperparameters the ranges allow; infinity when one of them is continuous."""
    return math.prod(item.count for item in ranges)


def around(name: str, hint: str) -> Range:
    """The range for an Autotune hint. SageMaker does not say how it chooses one; here, by the text of the hint:

    - whole number: from a quarter to four times, by the logarithm if it is positive; for 0, from 0 to 10;
    - decimal from 0.1 to 1, where shares and momenta lie: from a third of it to a third of the way from it to 1 short
      of 1;
    - other decimal: from a tenth to ten times, by the logarithm if it is positive; for 0.0, from 0 to 1;
    - true or false: both.

    Other text has no neighbourhood: it is `kept`.
    """
    if hint.lower() in {"true", "false"}:
        values = ("true", "false") if hint.islower() else ("True", "False")
        return Categorical(name, values)
    value = float(hint)
    if hint.lstrip("+-").isdigit():
        return _around_integer(name, int(hint))
    if 0.1 <= value < 1:
        return Continuous(name, value / 3, 1 - (1 - value) / 3, "Linear")
    if value > 0:
        return Continuous(name, value / 10, value * 10, "Logarithmic")
    if value == 0:
        return Continuous(name, 0.0, 1.0, "Linear")
    return Continuous(name, value * 10, value / 10, "Linear")


def _is_eligible(item: dict[str, str]) -> bool:
    hint = item["ValueHint"]
    return not item["Name"].startswith("sagemaker_") and (hint.lower() in {"true", "false"} or _is_number(hint))


def _around_integer(name: str, value: int) -> Integer:
    if value == 0:
        return Integer(name, 0, 10, "Linear")
    small, large = max(1, abs(value) // 4), abs(value) * 4
    return Integer(name, small, large, "Logarithmic") if value > 0 else Integer(name, -large, -small, "Linear")


def _categorical(item: dict[str, Any]) -> Categorical:
    values = tuple(item["Values"])
    if len(set(values)) < len(values):
        raise validation(f"Range '{item['Name']}': the Values must differ, got {', '.join(values)}.")
    if len(values) > MAX_VALUES:
        raise validation(f"Range '{item['Name']}': at most {MAX_VALUES} Values, got {len(values)}.")
    return Categorical(item["Name"], values)


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and math.isfinite(float(text))


def _bounds(item: dict[str, str], number: type[float] | type[int]) -> tuple[Any, Any]:
    """A range of one value is refused: whether SageMaker takes it is not documented, and a static one says the same."""
    texts = (item["MinValue"], item["MaxValue"])
    form = _INTEGER if number is int else _NUMBER
    if not all(form.fullmatch(text) and abs(float(text)) <= _LARGEST for text in texts):
        raise validation(
            f"Range '{item['Name']}': MinValue '{texts[0]}' and MaxValue '{texts[1]}' must both be "
            f"{'integers' if number is int else 'numbers'}, not beyond {_LARGEST:g}."
        )
    low, high = map(number, texts)
    if not low < high:
        raise validation(
            f"Range '{item['Name']}': MinValue {low} must be less than MaxValue {high}; "
            "a hyperparameter with one value belongs to StaticHyperParameters."
        )
    return low, high


def _scaling(item: dict[str, str], low: float, high: float, *, continuous: bool) -> str:
    scaling = item.get("ScalingType", "Auto")
    if scaling == "Logarithmic" and low <= 0:
        raise validation(f"Range '{item['Name']}': Logarithmic scaling needs MinValue > 0, got {low}.")
    if scaling == "ReverseLogarithmic" and not (continuous and low >= 0 and high < 1):
        raise validation(
            f"Range '{item['Name']}': ReverseLogarithmic scaling is for continuous ranges within 0 <= x < 1."
        )
    if scaling == "Auto":
        return "Logarithmic" if low > 0 and high / low >= _LOGARITHMIC_RATIO else "Linear"
    return scaling
