"""What a field of a recipe may hold, where its type does not tell: Annotated[int, Between(1, 750)].

One rule is read in three ways: pydantic applies it, JSON Schema and Airflow's trigger form show it.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from retraining.recipe.refusal import require

SECTION = ConfigDict(extra="forbid", strict=True)
"""A section takes the keys it knows, and values of their own type alone: `yes` in quotes is no flag."""


class Rule(ABC):
    """What a value has to be; `schema` says as much of it as JSON Schema can, in its words."""

    @property
    def schema(self) -> dict[str, Any]:
        return {}

    @abstractmethod
    def check(self, value: Any) -> None:
        """RecipeError, with an empty key, for a value that breaks the rule."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def checked(value: Any) -> Any:
            self.check(value)
            return value

        return core_schema.no_info_after_validator_function(checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | self.schema


@dataclass(frozen=True)
class Between(Rule):
    """A finite number within bounds, both included."""

    low: float
    high: float
    said: str = ""
    """The bounds in other words than "1 to 750", or what stands after them."""

    @property
    def schema(self) -> dict[str, Any]:
        return {"minimum": self.low, "maximum": self.high}

    def check(self, value: float) -> None:
        require(self.low <= value <= self.high, "", value, f"must be {self.low:.15g} to {self.high:.15g}{self.said}")


@dataclass(frozen=True)
class Above(Rule):
    """A finite number above a bound."""

    low: float
    unit: str = ""

    @property
    def schema(self) -> dict[str, Any]:
        return {"exclusiveMinimum": self.low}

    def check(self, value: float) -> None:
        allowed = math.isfinite(value) and value > self.low
        require(allowed, "", value, f"must be a number {self.unit}above {self.low:g}")


@dataclass(frozen=True)
class Matching(Rule):
    """A text that is, from its first to its last character, of a pattern."""

    pattern: str
    rule: str
    way_out: str = ""

    @property
    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^(?:{self.pattern})$"}

    def check(self, value: str) -> None:
        require(re.fullmatch(self.pattern, value) is not None, "", value, self.rule, self.way_out)


@dataclass(frozen=True)
class Where(Rule):
    """Whatever a function says yes to."""

    holds: Callable[[Any], bool]
    rule: str
    way_out: str = ""

    def check(self, value: Any) -> None:
        require(self.holds(value), "", value, self.rule, self.way_out)


@dataclass(frozen=True)
class BareOff:
    """YAML reads a bare Off as False; where a field has such a choice, the word is meant."""

    word: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def spelt(value: Any) -> Any:
            return self.word if value is False else value

        return core_schema.no_info_before_validator_function(spelt, handler(source))


TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def limits(section: type, field: str) -> dict[str, Any]:
    """JSON Schema's words for one field, which may also be None: its type, its choices, and those of its rules."""
    return _limits(get_type_hints(section, include_extras=True)[field])


def _limits(hint: Any) -> dict[str, Any]:
    if get_origin(hint) is Annotated:
        inner, *rules = get_args(hint)
        found = _limits(inner)
        for rule in rules:
            found |= rule.schema if isinstance(rule, Rule) else {}
        return found
    if get_origin(hint) is Literal:
        return {"type": "string", "enum": list(get_args(hint))}
    if hint in TYPES:
        return {"type": TYPES[hint]}
    (known,) = [part for part in get_args(hint) if part is not type(None)]
    found = _limits(known)
    choices = {"enum": [*found["enum"], None]} if "enum" in found else {}
    return found | choices | {"type": [found["type"], "null"]}
