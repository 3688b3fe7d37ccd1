"""Plain data, as YAML or a form gives it, to frozen dataclasses; RecipeError names the key that does not fit."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

from retraining.sections.refusal import RecipeError, did_you_mean, refuse_secret

T = TypeVar("T")

LARGEST = 2**63 - 1


def read_section(section: type[T], data: object) -> T:
    if not isinstance(data, Mapping):
        raise RecipeError("", data, "must be a section of keys and values")
    hints = typing.get_type_hints(section)
    known = {f.name: f for f in fields(section)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            refuse_secret(str(key))
            way_out = did_you_mean(str(key), known) or f"Known keys: {', '.join(known)}."
            raise RecipeError(str(key), data[key], "is not a key of this section", way_out)
    values = {}
    for key, value in data.items():
        try:
            values[key] = _read_value(hints[key], value)
        except RecipeError as error:
            raise error.inside(key) from None
    for key, known_field in known.items():
        has_default = known_field.default is not MISSING or known_field.default_factory is not MISSING
        if key not in values and not has_default:
            raise RecipeError(key, None, "is missing", f"Add the key {key}.")
    return section(**values)


def require_small_numbers(data: object, key: str = "") -> None:
    """RecipeError for a whole number that no field means: Python's have no end, and most cannot be made a float."""
    if isinstance(data, int) and not -LARGEST <= data <= LARGEST:
        raise RecipeError(key, data, f"must lie within ±{LARGEST}")
    if isinstance(data, Mapping):
        for name, item in data.items():
            require_small_numbers(name, key)
            require_small_numbers(item, f"{key}.{name}".lstrip("."))
    elif isinstance(data, list | tuple):
        for item in data:
            require_small_numbers(item, key)


def _read_value(hint: Any, value: object) -> Any:
    origin = get_origin(hint)
    if origin is types.UnionType:
        options = get_args(hint)
        if value is None and type(None) in options:
            return None
        concrete = [option for option in options if option is not type(None)]
        if len(concrete) == 1:
            return _read_value(concrete[0], value)
        if isinstance(value, tuple(concrete)) and (bool in concrete or not isinstance(value, bool)):
            return value
        kinds = "a text, a number, true or false" if bool in concrete else "a text or a number"
        raise RecipeError("", value, f"must be {kinds}")
    if origin is Literal:
        choices = get_args(hint)
        # YAML reads a bare Off as False; the recipe means the word.
        value = next((choice for choice in choices if choice.lower() == "off"), value) if value is False else value
        if value in choices:
            return value
        raise RecipeError("", value, f"must be one of {', '.join(choices)}", did_you_mean(str(value), choices))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise RecipeError("", value, "must be a section of keys and values")
        read = {}
        for key, item in value.items():
            try:
                read[str(key)] = _read_value(get_args(hint)[1], item)
            except RecipeError as error:
                raise error.inside(str(key)) from None
        return read
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError("", value, "must be a list")
        return tuple(_read_value(get_args(hint)[0], item) for item in value)
    if is_dataclass(hint):
        return read_section(typing.cast(type, hint), value)
    return _read_scalar(hint, value)


def _read_scalar(hint: type, value: object) -> object:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str) and re.fullmatch(r"[0-9.]+e-?[0-9]+", value):
        raise RecipeError("", value, "YAML reads this as a text", "Write it as 0.0001, or as 1.0e-4 with a dot.")
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise RecipeError("", value, f"must be {names[hint]}")
