"""The rules of a service model as functions, made once per shape: what a value may be, and how AWS says what is wrong.

A check takes a JSON value and gives back what the operation sees: without nulls and members the model does not know,
both of which AWS ignores. It notes what breaks a rule and goes on, because AWS reports everything at once. A value of
another JSON type than the model's ends it with a SerializationException.

The wording is that of AWS's services (Coral): `Value '…' at 'a.1.member.b' failed to satisfy constraint: …`, and for
lists and maps of plain values one sentence for all of them. Not verified on AWS: the words for a union with two members
and for a list that holds null.
"""

from __future__ import annotations

import datetime
import functools
import json
import math
import threading
from base64 import b64decode
from collections.abc import Callable
from typing import Any

from local_sagemaker.wire import java_pattern
from local_sagemaker.wire.errors import ApiError

Shape = dict[str, Any]
#: Names from the inside out: `("key", ("1.member", ("tags", None)))`.
Path = tuple[str, Any] | None
Check = Callable[[Any, Path, list[str]], Any]
Rule = tuple[str, Callable[[Any], bool]]

_MAX_SHOWN = 1_000
_INTEGERS = {"integer": 2**31, "long": 2**63}
_JSON_TYPES = {dict: "START_OBJECT", list: "START_ARRAY", str: "STRING_VALUE", bool: "BOOLEAN_VALUE"}
_JAVA_TYPES = {
    "structure": "Object", "list": "List", "map": "Map", "string": "String", "blob": "Blob", "boolean": "Boolean",
    "integer": "Integer", "long": "Long", "float": "Float", "double": "Double", "timestamp": "Timestamp",
}  # fmt: skip
#: Timestamps are epoch seconds within what a calendar can show: years 1 to 9999.
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799


class Checks:
    """The checks of one service's shapes. `strict` is for responses: null and unknown members break a rule there."""

    def __init__(self, shapes: dict[str, Shape], *, strict: bool = False) -> None:
        self._shapes = shapes
        self._strict = strict
        self._made: dict[str, Check] = {}
        self._making: dict[str, Check] = {}
        self._lock = threading.RLock()

    def of(self, name: str) -> Check:
        """Threads may share it: what is in the making is shown to others when all that it stands on is made."""
        if name in self._made:
            return self._made[name]
        with self._lock:
            is_outermost = not self._making
            if name not in self._made and name not in self._making:
                # Shapes refer to themselves (SearchExpression), so the one in the making is found by its name.
                self._making[name] = lambda value, path, problems: self._made[name](value, path, problems)
                self._making[name] = self._make(self._shapes[name])
            check = self._made[name] if name in self._made else self._making[name]
            if is_outermost:
                self._made, self._making = {**self._made, **self._making}, {}
            return check

    def _make(self, shape: Shape) -> Check:
        if shape.get("document"):
            return _document
        match shape["type"]:
            case "structure":
                return self._structure(shape)
            case "list":
                return self._list(shape)
            case "map":
                return self._map(shape)
            case "timestamp":
                return _timestamp
            case "blob":
                return _blob
            case _:
                return _scalar(shape)

    def _structure(self, shape: Shape) -> Check:
        members = {name: self.of(member["shape"]) for name, member in shape["members"].items()}
        required, union, strict = shape.get("required", []), shape.get("union"), self._strict

        def check(value: Any, path: Path, problems: list[str]) -> Any:
            if type(value) is not dict:
                raise _wrong_type(value, "structure", path)
            known = {}
            for name, item in value.items():
                member = members.get(name)
                if item is not None and member is not None:
                    known[name] = member(item, (name, path), problems)
                elif strict:
                    problems.append(f"Unknown or null member '{_written((name, path))}'")
            for name in required:
                if name not in known:
                    problems.append(_problem(None, (name, path), "Member must not be null"))
            if union and len(known) != 1:
                problems.append(_problem(value, path, "Member must have exactly one of its members set"))
            return known

        return check

    def _list(self, shape: Shape) -> Check:
        sizes, (member, rules) = _sizes(shape), self._elements(shape["member"])

        def check(value: Any, path: Path, problems: list[str]) -> Any:
            if type(value) is not list:
                raise _wrong_type(value, "list", path)
            _report(value, path, sizes, len(value), problems)
            for index, item in enumerate(value, start=1):
                if item is None:
                    problems.append(_problem(None, (f"{index}.member", path), "Member must not be null"))
            checked = [
                member(item, (f"{i}.member", path), problems) for i, item in enumerate(value, 1) if item is not None
            ]
            if rules and any(_breaks(item, rules) for item in checked):
                problems.append(_problem(value, path, f"Member must satisfy constraint: {_listed(rules)}"))
            return checked

        return check

    def _map(self, shape: Shape) -> Check:
        sizes, (key, key_rules), (member, rules) = _sizes(shape), *map(self._elements, (shape["key"], shape["value"]))

        def check(value: Any, path: Path, problems: list[str]) -> Any:
            if type(value) is not dict:
                raise _wrong_type(value, "map", path)
            _report(value, path, sizes, len(value), problems)
            checked = {
                key(name, (f"{name}.key", path), problems): member(item, (f"{name}.member", path), problems)
                for name, item in value.items()
                if item is not None
            }
            if key_rules and any(_breaks(name, key_rules) for name in checked):
                problems.append(_problem(value, path, f"Map keys must satisfy constraint: {_listed(key_rules)}"))
            if rules and any(_breaks(item, rules) for item in checked.values()):
                problems.append(_problem(value, path, f"Map value must satisfy constraint: {_listed(rules)}"))
            return checked

        return check

    def _elements(self, reference: Shape) -> tuple[Check, list[Rule]]:
        """How each element is checked, and the rules that are reported for all of them together."""
        shape = self._shapes[reference["shape"]]
        if shape["type"] in ("structure", "list", "map", "timestamp", "blob"):
            return self.of(reference["shape"]), []
        return _typed(shape["type"]), _rules(shape)


def _scalar(shape: Shape) -> Check:
    typed, rules, secret = _typed(shape["type"]), _rules(shape), shape.get("sensitive")

    def check(value: Any, path: Path, problems: list[str]) -> Any:
        typed(value, path, problems)
        for words, holds in rules:
            if not holds(value):
                problems.append(_problem("*** Sensitive Data Redacted ***" if secret else value, path, words))
        return value

    return check if rules else typed


def _typed(name: str) -> Check:
    if name in _INTEGERS:
        bound = _INTEGERS[name]

        def check(value: Any, path: Path, problems: list[str]) -> Any:
            if type(value) is not int or not -bound <= value < bound:
                raise _wrong_type(value, name, path)
            return value
    elif name in ("float", "double"):

        def check(value: Any, path: Path, problems: list[str]) -> Any:
            # An int too large for a float cannot be compared with one either.
            if (
                type(value) not in (int, float)
                or (type(value) is int and abs(value) > 2**63)
                or not math.isfinite(value)
            ):
                raise _wrong_type(value, name, path)
            return value
    elif name == "boolean":

        def check(value: Any, path: Path, problems: list[str]) -> Any:
            if type(value) is not bool:
                raise _wrong_type(value, name, path)
            return value
    else:

        def check(value: Any, path: Path, problems: list[str]) -> Any:
            if type(value) is not str or not (value.isascii() or _is_text(value)):
                raise _wrong_type(value, name, path)
            return value

    return check


def _rules(shape: Shape) -> list[Rule]:
    if shape["type"] == "string":
        rules: list[Rule] = [(words, functools.partial(_of_length, holds)) for words, holds in _sizes(shape)]
        if enum := shape.get("enum"):
            rules.append((f"Member must satisfy enum value set: [{', '.join(enum)}]", frozenset(enum).__contains__))
        if pattern := shape.get("pattern"):
            matches = java_pattern.compiled(pattern)
            # What is far too long is reported as that; no pattern is tried on megabytes.
            longest = max(shape.get("max", 2**31), 4_096)
            holds = lambda value: len(value) > longest or matches(value)  # noqa: E731
            rules.append((f"Member must satisfy regular expression pattern: {pattern}", holds))
        return rules
    return _bounds(shape, "value") if shape["type"] != "boolean" else []


def _of_length(holds: Callable[[Any], bool], value: str) -> bool:
    return holds(len(value))


def _sizes(shape: Shape) -> list[Rule]:
    return _bounds(shape, "length")


def _bounds(shape: Shape, what: str) -> list[Rule]:
    rules: list[Rule] = []
    if "max" in shape:
        largest = float(shape["max"])
        rules.append((f"Member must have {what} less than or equal to {shape['max']}", lambda size: size <= largest))
    if "min" in shape:
        least = float(shape["min"])
        rules.append((f"Member must have {what} greater than or equal to {shape['min']}", lambda size: size >= least))
    return rules


def _report(value: Any, path: Path, rules: list[Rule], size: int, problems: list[str]) -> None:
    for words, holds in rules:
        if not holds(size):
            problems.append(_problem(value, path, words))


def _breaks(value: Any, rules: list[Rule]) -> bool:
    return not all(holds(value) for _, holds in rules)


def _listed(rules: list[Rule]) -> str:
    return f"[{', '.join(words for words, _ in rules)}]"


def _timestamp(value: Any, path: Path, problems: list[str]) -> Any:
    """Epoch seconds; a text in ISO 8601 becomes them."""
    if type(value) is str:
        try:
            moment = datetime.datetime.fromisoformat(value)
            value = (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
        except (ValueError, OverflowError):
            raise _wrong_type(value, "timestamp", path) from None
    if type(value) not in (int, float) or not _FIRST_S <= value <= _LAST_S:
        raise _wrong_type(value, "timestamp", path)
    return value


def _blob(value: Any, path: Path, problems: list[str]) -> Any:
    try:
        b64decode(value, validate=True)
    except (TypeError, ValueError):
        raise _wrong_type(value, "blob", path) from None
    return value


def _document(value: Any, path: Path, problems: list[str]) -> Any:
    """Any JSON, of finite numbers and whole characters."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        raise ApiError("SerializationException", f"'{_written(path)}' holds what JSON cannot carry") from None
    return value


def _is_text(value: str) -> bool:
    """Half a surrogate pair is no character: it can be written as JSON, and nowhere else."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _wrong_type(value: Any, expected: str, path: Path) -> ApiError:
    found = _JSON_TYPES.get(type(value), "NUMBER_VALUE" if value is not None else "NULL_VALUE")
    article = "an" if _JAVA_TYPES[expected][0] in "IO" else "a"
    return ApiError(
        "SerializationException",
        f"{found} can not be converted to {article} {_JAVA_TYPES[expected]} at '{_written(path) or 'request'}': "
        f"{shown(value)[:80]}",
    )


def _problem(value: Any, path: Path, words: str) -> str:
    said = "Value null" if value is None else f"Value '{shown(value)}'"
    return f"{said} at '{_written(path)}' failed to satisfy constraint: {words}"


def shown(value: Any) -> str:
    """A value as Java prints it, cut where it would fill the screen, with nothing that a terminal would obey."""
    text = _java(value, depth=4)
    text = text if text.isprintable() else "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(text)} characters)"


def _java(value: Any, depth: int) -> str:
    match value:
        case dict() | list() if depth == 0:
            return "…"
        case dict():
            return f"{{{', '.join(f'{key}={_java(item, depth - 1)}' for key, item in value.items())}}}"
        case list():
            return f"[{', '.join(_java(item, depth - 1) for item in value)}]"
        case bool():
            return str(value).lower()
        case int() if abs(value) >= 2**64:
            return "a number beyond 64 bits"
    return str(value)


def _written(path: Path) -> str:
    names: list[str] = []
    while path is not None:
        name, path = path
        names.append(name if name[-7:] == ".member" or name[-4:] == ".key" else name[:1].lower() + name[1:])
    return shown(".".join(reversed(names)))
