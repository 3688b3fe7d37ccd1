"""Plain data, as YAML or a form gives it, to frozen dataclasses; RecipeError names the key that does not fit.

pydantic checks types, keys and rules; here its findings get the words of RecipeError. Data is read as JSON is: only
there a strict section may come as a mapping, and a tuple as a list.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from retraining.recipe.refusal import RecipeError, did_you_mean, refuse_secret, way_out_of_exponent

T = TypeVar("T")

LARGEST = 2**63 - 1
# pydantic's texts are UTF-8, and a path may hold bytes that are not: they pass it as characters of private use.
TO_PRIVATE = {code: code - 0xD800 + 0x10F000 for code in range(0xD800, 0xE000)}
FROM_PRIVATE = {private: code for code, private in TO_PRIVATE.items()}
UNION = {"str", "int", "float", "bool"}
"""What pydantic calls the parts of a union of scalars."""
NOT_A_SECTION = "must be a section of keys and values"
RULES = {
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": NOT_A_SECTION,
    "dataclass_type": NOT_A_SECTION,
}


_adapters: dict[type, TypeAdapter[Any]] = {}
"""Of the sections that were read; making one takes longer than reading ten recipes."""


def read_section(section: type[T], data: object) -> T:
    """The section that the data describes; RecipeError with everything in it that does not fit, the first in front."""
    _require_plain(data)
    try:
        if section not in _adapters:
            _adapters[section] = TypeAdapter(section)
        adapter: TypeAdapter[T] = _adapters[section]
        text = json.dumps(data, ensure_ascii=False)
        carried = text.translate(TO_PRIVATE)
        read = adapter.validate_json(carried)
        return read if carried == text else _with_surrogates(read)
    except ValidationError as found:
        errors = [_refusal(section, error) for error in _one_each(found.errors(include_url=False))]
        raise errors[0].together_with(errors[1:]) from None


def _with_surrogates(value: Any) -> Any:
    """The same, with the bytes of file names that are no UTF-8 as Python has them."""
    if isinstance(value, str):
        return value.translate(FROM_PRIVATE)
    if isinstance(value, dict):
        return {_with_surrogates(key): _with_surrogates(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_with_surrogates(item) for item in value)
    if is_dataclass(value):
        for field in fields(value):
            object.__setattr__(value, field.name, _with_surrogates(getattr(value, field.name)))
    return value


def _require_plain(data: object, key: str = "") -> None:
    """RecipeError for what JSON does not have, or no field means: dates, keys of lists, numbers without an end."""
    if isinstance(data, bool | float | str) or data is None:
        return
    if isinstance(data, int):
        if not -LARGEST <= data <= LARGEST:
            raise RecipeError(key, data, f"must lie within ±{LARGEST}")
    elif isinstance(data, Mapping):
        for name, item in data.items():
            path = f"{key}.{name}".lstrip(".")
            if not isinstance(name, str | int | float | bool) and name is not None:
                raise RecipeError(path, item, "has a key that is no text")
            _require_plain(name, key)
            _require_plain(item, path)
    elif isinstance(data, list | tuple):
        for item in data:
            _require_plain(item, key)
    else:
        raise RecipeError(key, data, f"YAML reads this as a {type(data).__name__}", "Put it into quotes.")


def _one_each(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """A value that fits no part of a union is one error, not one for each part."""
    found: dict[tuple[int | str, ...], ErrorDetails] = {}
    for error in errors:
        place = error["loc"]
        if place and place[-1] in UNION and error["type"] in RULES:
            error = {**error, "type": "union", "loc": place[:-1]}
        found.setdefault(error["loc"], error)
    return list(found.values())


def _refusal(section: type, error: ErrorDetails) -> RecipeError:
    # A key that breaks a rule of its own is the value, and the section that it stands in is the key.
    place = error["loc"][:-2] if error["loc"][-1:] == ("[key]",) else error["loc"]
    key = ".".join(str(part) for part in place if not isinstance(part, int))
    value, kind, context = _with_surrogates(error["input"]), error["type"], error.get("ctx", {})
    if isinstance(refused := context.get("error"), RecipeError):
        refused.value = _with_surrogates(refused.value)
        return refused.inside(key) if key else refused.found_in(refused.where)
    if kind == "unexpected_keyword_argument":
        *above, last = place
        refuse_secret(str(last), within=".".join(map(str, above)))
        known = [field.name for field in fields(_section_at(section, above))]
        way_out = did_you_mean(str(last), known) or f"Known keys: {', '.join(known)}."
        return RecipeError(key, value, "is not a key of this section", way_out)
    if kind == "missing":
        return RecipeError(key, None, "is missing", f"Add the key {place[-1]}.")
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return RecipeError(key, value, f"must be one of {', '.join(choices)}", did_you_mean(str(value), choices))
    if kind == "union":
        return RecipeError(key, value, "must be a text, a number, true or false")
    way_out = way_out_of_exponent(value) if kind in ("float_type", "int_type") else ""
    if kind == "string_type" and isinstance(value, bool | int | float):
        words = ", for YAML takes yes, no, on and off for true and false" if isinstance(value, bool) else ""
        way_out = f"Put it into quotes{words}."
    return RecipeError(key, value, RULES.get(kind) or error["msg"], way_out)


def _section_at(section: Any, place: list[int | str]) -> Any:
    """The dataclass that stands at this place of a recipe."""
    for part in place:
        if is_dataclass(section):
            section = get_type_hints(section)[str(part)]
        elif get_origin(section) in (dict, tuple):
            section = get_args(section)[get_origin(section) is dict]
        section = _without_none(section)
    return section


def _without_none(hint: Any) -> Any:
    if get_origin(hint) is Annotated:
        return _without_none(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return next((part for part in get_args(hint) if part is not type(None)), hint)
    return hint
