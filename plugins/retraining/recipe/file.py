"""The YAML of a recipe → plain data, within bounds: a file of some kilobytes can ask for more than a machine has.

PyYAML bounds nothing: lists that repeat lists double with every line, also in merge keys; deep nesting ends in a
RecursionError, long numbers and impossible dates in a ValueError.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retraining.recipe.refusal import RecipeError

MAX_BYTES = 64 * 1024
"""Of the file; the longest recipe of this package has 3 kB."""
MAX_DEPTH = 20
"""Of sections and lists in each other; a recipe has five."""
MAX_ALIASES = 100


def read_yaml(path: Path) -> object:
    """What the file holds; RecipeError, which does not name the file, for what cannot be read or has no end."""
    import yaml

    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise RecipeError("file", path.name, f"has more than {MAX_BYTES} bytes; a recipe is a few kilobytes")
        text = content.decode()
        try:
            return _load(path.name, text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError:  # libyaml is ten times as fast, but refuses names of files that are not UTF-8
            return _load(path.name, text, yaml.SafeLoader)
    except RecipeError:
        raise
    except OSError as error:
        raise RecipeError("file", path.name, f"cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
        problem = str(error)[:1000] or type(error).__name__
        raise RecipeError("file", path.name, f"is not valid YAML ({problem})") from None


def mentions(path: Path, text: str) -> bool:
    """Whether the text occurs in the file; also where that cannot be told."""
    try:
        with path.open("rb") as file:
            return text.encode() in file.read(MAX_BYTES)
    except OSError:
        return True


def _load(name: str, text: str, loader: Any) -> object:
    import yaml

    _require_bounded(name, text, loader)
    return yaml.load(text, loader)


def _require_bounded(name: str, text: str, loader: Any) -> None:
    """By the events of its parser, which builds nothing: `&a` names a part, `*a` repeats it.

    What is repeated must not repeat others itself. Then the whole is no larger than MAX_ALIASES times the file.
    """
    import yaml

    depth = aliases = 0
    anchored: list[bool] = []
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            anchored.append(event.anchor is not None)
            if depth > MAX_DEPTH:
                raise RecipeError("file", name, f"has sections or lists more than {MAX_DEPTH} deep in each other")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            anchored.pop()
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if aliases > MAX_ALIASES or any(anchored):
                raise RecipeError(
                    "file",
                    name,
                    f"repeats (*{event.anchor}) what repeats, or more than {MAX_ALIASES} times",
                    "Write it out.",
                )
