"""What a recipe may hold, as JSON Schema: an editor completes its keys and marks what is impossible.

Rules about several keys at once (`max_parallel_jobs` against `max_jobs`) are not in it; the check that counts is
read_recipe's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from retraining.recipe.debugger import ALL_RULES
from retraining.recipe.hyperparameters import HYPERPARAMETERS
from retraining.recipe.recipe import Recipe

ANY_NAME = "<hyperparameter>"
"""Stands in a path for the keys of a section that are names of hyperparameters."""


def recipe_schema(meanings: Mapping[str, str]) -> dict[str, Any]:
    """JSON Schema (2020-12) of a recipe.

    `meanings` is what the keys mean, by their paths: `tuning.max_jobs`, `tuning.ranges.<hyperparameter>.min`,
    `hyperparameters.lr`.
    """
    schema = TypeAdapter(Recipe).json_schema()
    _describe(schema, schema["$defs"], meanings, "")
    schema["properties"]["hyperparameters"] = {
        "type": "object",
        "description": "Fixed values; what tuning.ranges searches for stands there.",
        "properties": {
            name: one.schema | {"description": meanings.get(f"hyperparameters.{name}") or one.rule}
            for name, one in HYPERPARAMETERS.items()
        },
        "additionalProperties": False,
    }
    schema["$defs"]["Tuning"]["properties"]["ranges"]["propertyNames"] = {"enum": list(HYPERPARAMETERS)}
    debugger = schema["$defs"]["Debugger"]["properties"]
    debugger["rules"]["propertyNames"] = debugger["stop_training"]["items"] = {"enum": list(ALL_RULES)}
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Recipe of a classifier"}
    return dialect | {key: value for key, value in schema.items() if key != "title"}


def _describe(section: dict[str, Any], sections: dict[str, Any], meanings: Mapping[str, str], above: str) -> None:
    for key, field in section["properties"].items():
        path = f"{above}{key}"
        field.pop("title", None)
        if path in meanings:
            field["description"] = meanings[path]
        many = field.get("additionalProperties", {})
        for reference, inside in [
            *((part.get("$ref"), path) for part in (field, *field.get("anyOf", []))),
            (many.get("$ref"), f"{path}.{ANY_NAME}") if isinstance(many, dict) else (None, ""),
        ]:
            if reference:
                _describe(sections[reference.rpartition("/")[2]], sections, meanings, f"{inside}.")
