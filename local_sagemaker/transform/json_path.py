"""The subset of JSONPath that AWS documents for the filters of a batch transform job.

`$`, `.name`, `['name', …]`, `[0, -1, …]`, `[1:3]` and `*`. A slice holds both its ends, as AWS documents it
(`$[1:4]` is the second to the fifth column), unlike a slice of Python or of other JSONPath implementations.
An index or a name that is not there is an error, as on AWS. One that chooses an element twice before its last step is
one here too. Source: the developer guide's "Associate Prediction Results with Input Records".
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

_NAME = re.compile(r"\.([^\s.\[\]'\"*?@(),:$]+)")
_WILDCARD = re.compile(r"\.\*|\.?\[\s*\*\s*\]")
_NAMES = re.compile(r"\.?\[\s*((?:'[^']*'|\"[^\"]*\")(?:\s*,\s*(?:'[^']*'|\"[^\"]*\"))*)\s*\]")
_INDEXES = re.compile(r"\.?\[([-\d:,\s]+)\]")
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_INDEX = re.compile(r"(-?\d+)|(-?\d+)?\s*:\s*(-?\d+)?")

#: What is understood, for whoever wrote something else.
OPERATORS = "$, .name, ['name',…], [0,-1,…], [1:3] and *"


@dataclasses.dataclass(frozen=True, slots=True)
class _Slice:
    start: int | None
    last: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Names:
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Indexes:
    indexes: tuple[int | _Slice, ...]


class _Wildcard:
    pass


_Step = _Names | _Indexes | _Wildcard


@dataclasses.dataclass(frozen=True)
class JsonPath:
    text: str
    _steps: tuple[_Step, ...]

    @classmethod
    def parse(cls, text: str) -> JsonPath:
        """Raises ValueError for anything outside the subset."""
        steps: list[_Step] = []
        position = 1
        if not text.startswith("$"):
            raise ValueError(f"'{text}' is not a JSONPath: it must start with $")
        while position < len(text):
            step, position = _step(text, position)
            steps.append(step)
        return cls(text, tuple(steps))

    @property
    def is_root(self) -> bool:
        return not self._steps

    @property
    def has_names(self) -> bool:
        """Whether it looks an attribute up by its name, which a row of a CSV file does not have."""
        return any(isinstance(step, _Names) for step in self._steps)

    def select(self, value: Any) -> Any:
        """The part of `value`: one thing, or a list where the path can mean several. Raises ValueError if missing."""
        nodes, several = [value], False
        for number, step in enumerate(self._steps, start=1):
            if isinstance(step, _Names) and len(step.names) > 1 and number == len(self._steps):
                nodes = [{name: self._attribute(node, name) for name in step.names} for node in nodes]
                continue
            several = several or _means_several(step)
            nodes = [found for node in nodes for found in self._follow(step, node, is_last=number == len(self._steps))]
        return nodes if several else nodes[0]

    def _follow(self, step: _Step, node: Any, *, is_last: bool) -> list[Any]:
        if isinstance(step, _Names):
            self._require_once(step.names, is_last)
            return [self._attribute(node, name) for name in step.names]
        if isinstance(step, _Indexes):
            if not isinstance(node, list):
                raise ValueError(f"{self.text}: {node!r:.80} is not an array")
            positions = [position for index in step.indexes for position in self._positions(node, index)]
            self._require_once(positions, is_last)
            return [node[position] for position in positions]
        if isinstance(node, dict):
            return list(node.values())
        if isinstance(node, list):
            return node
        raise ValueError(f"{self.text}: {node!r:.80} has nothing in it")

    def _require_once(self, chosen: Sequence[str | int], is_last: bool) -> None:
        """Each step with a repetition multiplies the record: 60 letters could make terabytes of it."""
        if not is_last and len(set(chosen)) < len(chosen):
            raise ValueError(f"{self.text}: something is chosen twice before the last step")

    def _attribute(self, node: Any, name: str) -> Any:
        if not isinstance(node, dict) or name not in node:
            raise ValueError(f"{self.text}: {node!r:.80} has no attribute '{name}'")
        return node[name]

    def _positions(self, node: list[Any], index: int | _Slice) -> Sequence[int]:
        if isinstance(index, int):
            return [self._position(node, index)]
        start = 0 if index.start is None else self._position(node, index.start)
        last = len(node) - 1 if index.last is None else self._position(node, index.last)
        return range(start, last + 1)

    def _position(self, node: list[Any], index: int) -> int:
        if not -len(node) <= index < len(node):
            raise ValueError(f"{self.text}: there is no element {index}; there are {len(node)} elements")
        return index % len(node)


def _step(text: str, position: int) -> tuple[_Step, int]:
    if match := _WILDCARD.match(text, position):
        return _Wildcard(), match.end()
    if match := _NAME.match(text, position):
        return _Names((match[1],)), match.end()
    if match := _NAMES.match(text, position):
        return _Names(tuple(single or double for single, double in _QUOTED.findall(match[1]))), match.end()
    if match := _INDEXES.match(text, position):
        return _Indexes(tuple(_index(text, part) for part in match[1].split(","))), match.end()
    raise ValueError(f"JSONPath '{text}': '{text[position:]}' is not understood; the operators are {OPERATORS}")


def _index(text: str, part: str) -> int | _Slice:
    match = _INDEX.fullmatch(part.strip())
    if match is None:
        raise ValueError(f"JSONPath '{text}': '{part}' is not an index or a slice")
    if match[1] is not None:
        return int(match[1])
    return _Slice(*(int(bound) if bound is not None else None for bound in (match[2], match[3])))


def _means_several(step: _Step) -> bool:
    if isinstance(step, _Indexes):
        return len(step.indexes) > 1 or isinstance(step.indexes[0], _Slice)
    return isinstance(step, _Wildcard) or len(step.names) > 1
