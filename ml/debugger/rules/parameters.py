"""What a rule can be told, and the reading of it: RuleParameters are texts, and a wrong one is refused, not guessed.

A parameter that the rule does not know, or a text that does not say what it should, raises InvalidParameter, which
becomes the status Error of that rule. "None" is how the SDK writes that something was not given.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ENGINE = ("rule_to_invoke", "action_json")  # read by the engine, not by the rule
REQUIRED = object()


class InvalidParameter(Exception):
    """A rule was told what it cannot use; the message names the rule, the parameter, the value and what it takes."""


@dataclass(frozen=True)
class Parameter:
    """`default` is REQUIRED where there is none; None where nothing given means something of its own."""

    name: str
    kind: "Kind"
    default: Any
    meaning: str


@dataclass(frozen=True)
class Kind:
    """How a text becomes a value; `read` raises ValueError where it does not."""

    says: str
    read: Callable[[str], Any]


def read_parameters(rule: str, declared: Iterable[Parameter], given: Mapping[str, str]) -> SimpleNamespace:
    """The values of a rule's parameters, as attributes."""
    known = {parameter.name: parameter for parameter in declared}
    for name in given:
        if name not in known and name not in ENGINE:
            takes = ", ".join(known) or "none"
            raise InvalidParameter(f"{rule} has no parameter '{name}'; it takes {takes}")
    values = SimpleNamespace()
    for parameter in declared:
        text = str(given.get(parameter.name, "None")).strip()
        setattr(values, parameter.name, value_of(rule, parameter, text))
    return values


def value_of(rule: str, parameter: Parameter, text: str) -> Any:
    if text in ("None", ""):
        if parameter.default is REQUIRED:
            raise InvalidParameter(f"{rule} needs the parameter '{parameter.name}': {parameter.meaning}")
        return parameter.default
    try:
        return parameter.kind.read(text)
    except ValueError as error:
        about = "" if parameter.default in (None, REQUIRED) else f"; the default is {parameter.default}"
        raise InvalidParameter(f"{rule}: {parameter.name}='{text}' is not {parameter.kind.says}{about}") from error


def whole(least: int = 0) -> Kind:
    def read(text: str) -> int:
        value = int(text)
        if value < least:
            raise ValueError(value)
        return value

    return Kind(f"a whole number of at least {least}", read)


def number(least: float = -math.inf, most: float = math.inf) -> Kind:
    def read(text: str) -> float:
        value = float(text)
        if not least <= value <= most or math.isinf(value):
            raise ValueError(value)
        return value

    if least == -math.inf:
        return Kind("a number", read)
    return Kind(f"a number from {least:g} to {most:g}" if most < math.inf else f"a number of at least {least:g}", read)


def choice(*options: str) -> Kind:
    def read(text: str) -> str:
        if text.upper() not in options:
            raise ValueError(text)
        return text.upper()

    return Kind(f"one of {', '.join(options)}", read)


def read_flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def read_regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(error) from error
    return text


def read_regexes(text: str) -> tuple[str, ...]:
    """Commas separate expressions, except within brackets or braces: `.*tanh_input, .*x{1,3}` are two."""
    parts = re.split(r",(?![^{}\[\]()]*[}\])])", text)
    return tuple(read_regex(part.strip()) for part in parts if part.strip())


def read_names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


FLAG = Kind("True or False", read_flag)
TEXT = Kind("a text", str)
REGEX = Kind("a regular expression", read_regex)
REGEXES = Kind("one or several regular expressions with commas between them", read_regexes)
NAMES = Kind("one or several names with commas between them", read_names)
