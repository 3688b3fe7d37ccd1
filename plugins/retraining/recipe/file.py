"""The YAML of a recipe → plain data, within bounds: a file of some kilobytes can ask for more than a machine has.

PyYAML bounds nothing: lists that repeat lists double with every line, also in merge keys; deep nesting ends in a
RecursionError, long numbers and impossible dates in a ValueError. Of a key that stands twice it drops the first.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from retraining.printable import printable
from retraining.recipe.refusal import RecipeError, shown

MAX_BYTES = 64 * 1024
"""Of the file; the longest recipe of this package has 3 kB."""
MAX_DEPTH = 20
"""Of sections and lists in each other; a recipe has five."""
MAX_ALIASES = 100
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""What a text in it begins with."""
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
ODD_NUMBER = re.compile(r"[-+]?(?:0[0-7_]+|[0-9_]+(?::[0-9_.]+)+)")
MERGE = "tag:yaml.org,2002:merge"
"""Of `<<`, which may stand twice."""


def read_yaml(path: Path) -> object:
    """What the file holds; RecipeError, which does not name the file, for what cannot be read or has no end."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would never end
            raise RecipeError("file", path.name, "is no file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise RecipeError("file", path.name, f"has more than {MAX_BYTES} bytes; a recipe is a few kilobytes")
        text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8")
    except OSError as error:
        raise RecipeError("file", path.name, f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise _no_yaml("file", path.name, error) from None
    return parsed("file", path.name, text, "A recipe has a name and a source: see dags/recipes.")


def parsed(key: str, name: str, text: str, way_out: str) -> dict[Any, Any]:
    """What a text holds: keys with values. Raises RecipeError, of the key and the name."""
    import yaml

    try:
        try:
            found = _load(name, text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError:  # libyaml is ten times as fast, but refuses names of files that are not UTF-8
            found = _load(name, text, yaml.SafeLoader)
    except RecipeError:
        raise
    except (yaml.YAMLError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
        raise _no_yaml(key, name, error) from None
    if not isinstance(found, dict):
        rule = "is empty" if found is None else f"is a {type(found).__name__}, not keys with values"
        raise RecipeError(key, name, rule, way_out)
    return found


def _no_yaml(key: str, name: str, error: Exception) -> RecipeError:
    problem = "\n".join(map(printable, str(error)[:1000].splitlines())) or type(error).__name__
    return RecipeError(key, name, f"is not valid YAML ({problem})")


def mentions(path: Path, text: str) -> bool:
    """Whether the text occurs in the file; also where that cannot be told."""
    if not path.is_file():
        return True
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES)
            return text.encode() in content or content.startswith(UTF_16)
    except OSError:
        return True


def _load(name: str, text: str, loader: Any) -> object:
    _require_bounded(name, text, loader)
    reading = loader(text)
    try:
        node = reading.get_single_node()
        _require_single_keys(name, node)
        _require_plain_numbers(name, node)
        return reading.construct_document(node) if node else None
    finally:
        reading.dispose()


def _require_plain_numbers(name: str, node: Any) -> None:
    """YAML 1.1 counts a number that begins with 0 by eights, and one with colons by sixties: 1:00 is 60."""
    import yaml

    if isinstance(node, yaml.CollectionNode):
        for part in node.value:
            for one in part if isinstance(part, tuple) else (part,):
                _require_plain_numbers(name, one)
    elif isinstance(node, yaml.ScalarNode) and node.tag in NUMBERS and ODD_NUMBER.fullmatch(node.value):
        line = f"has the number {shown(node.value)} in line {node.start_mark.line + 1}"
        rule = "which YAML counts by eights" if ":" not in node.value else "which YAML counts by sixties"
        raise RecipeError("file", name, f"{line}, {rule}", "Write it in decimal digits, or in quotes if it is a text.")


def _require_single_keys(name: str, node: Any) -> None:
    """Whoever wrote two values meant one of them, and only YAML's authors know by heart that the last one counts."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _require_single_keys(name, item)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                line = key.start_mark.line + 1
                if first := lines.get(key.value):
                    rule = f"has the key {shown(key.value)} twice in one section, in lines {first} and {line}"
                    raise RecipeError("file", name, rule, "Keep one of the two.")
                lines[key.value] = line
            _require_single_keys(name, value)


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
