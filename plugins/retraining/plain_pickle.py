"""A stranger's pickle as plain values: an interpreter of its own, that loads no class, calls nothing and stays small.

Python's unpickler cannot be made safe for data: a class that is let through is built with the file's arguments, and
numpy's own accept pointers. Here a class is its name, a call is a record of its arguments, and what every value costs
is paid from the file's size or from a fixed number of steps. Values may share parts: whoever walks them bounds that.
"""

from __future__ import annotations

import codecs
import io
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import IO, Any

MAX_STEPS = 2_000_000
"""Of one pickle: CIFAR-100 takes 300,000; the weights of a network about 50 a tensor. 100 bytes each at most."""
MAX_BYTES = 512 * 1024**2
"""Of one pickle: the makers' largest of CIFAR-100 has 155 MB. A text takes four times its own bytes, and more."""
MAX_MARKS = 1_000
MAX_NUMBER = 40
"""Characters, or bytes, of one number."""
MAX_NAME = 300
"""Characters of the name of a class."""


class PickleRefused(ValueError):
    """The pickle is damaged, or holds more than plain values."""


@dataclass(frozen=True, eq=False)
class Class:
    """A class or function that the pickle names; it is never loaded."""

    module: str
    name: str


@dataclass(eq=False)
class Made:
    """What the pickle wants a class or function to make of these arguments; nobody does."""

    by: Class
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True, eq=False)
class Outside:
    """Something that lies beside the pickle, by what identifies it."""

    identity: Any


def is_made(value: object, *names: str) -> bool:
    return isinstance(value, Made) and value.by.name in names


def shown(value: object) -> str:
    """A value in few words; never by its repr, which repeats what it shares without end."""
    if isinstance(value, str | bytes):
        return repr(value[:60]) + ("…" if len(value) > 60 else "")
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return f"one {type(value).__name__}"


def load(
    file: IO[bytes], known: Collection[tuple[str, str]], what: str, *, text: bool = False, most_bytes: int = MAX_BYTES
) -> Any:
    """The next pickle of `file`, which is left behind it. PickleRefused, for classes that are not `known` as well.

    `what` is what a class should have been, for the complaint; `text`: strings of Python 2 are UTF-8, else bytes.
    """
    try:
        return _Reader(file, known, what, text, most_bytes).run()
    except (ValueError, IndexError, KeyError, TypeError, struct.error, OverflowError, MemoryError) as error:
        if isinstance(error, PickleRefused):
            raise
        raise PickleRefused(f"the pickle is damaged ({type(error).__name__})") from None


_NO_MARK = "its marks do not match"


@dataclass
class _Reader:
    file: IO[bytes]
    known: Collection[tuple[str, str]]
    what: str
    text: bool
    most_bytes: int
    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    """The stacks under the marks."""
    memo: dict[int, Any] = field(default_factory=dict)
    steps: int = 0
    size: int = 0
    left: int = 0
    """Bytes of the file, and those not yet read."""
    encoded: int = 0

    def run(self) -> Any:
        at = self.file.tell()
        self.file.seek(0, io.SEEK_END)
        self.left = self.size = min(self.file.tell() - at, self.most_bytes)
        self.file.seek(at)
        while (code := self.take(1)) != b".":
            self.spend(1)
            action = _ACTIONS.get(code)
            if action is None:
                raise PickleRefused(f"its code {code!r} makes more than plain values")
            action(self)
        return self.stack.pop()

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise PickleRefused(f"it takes more than {MAX_STEPS:,} steps")

    # --- reading ------------------------------------------------------------------------------------------------------

    def take(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise PickleRefused(self.end())
        self.left -= size
        body = self.file.read(size)
        if len(body) != size:
            raise PickleRefused("the file ends within its pickle")
        return body

    def end(self) -> str:
        """Why nothing more is read."""
        return "the file ends within its pickle" if self.size < self.most_bytes else f"it has over {self.size:,} bytes"

    def number(self, kind: str) -> int:
        return int(struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0])

    def line(self, most: int | None = None) -> bytes:
        most = self.left if most is None else min(most, self.left)
        line = self.file.readline(most)
        self.left -= len(line)
        if not line.endswith(b"\n"):
            raise PickleRefused("a line of it has no end, or is too long")
        return line[:-1]

    # --- the stack ----------------------------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        if len(self.below) >= MAX_MARKS:
            raise PickleRefused(f"it is nested deeper than {MAX_MARKS}")
        self.below.append(self.stack)
        self.stack = []

    def above_mark(self) -> list[Any]:
        if not self.below:
            raise PickleRefused(_NO_MARK)
        found, self.stack = self.stack, self.below.pop()
        return found

    def last(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise PickleRefused(_NO_MARK)
        found = tuple(self.stack[-count:])
        del self.stack[-count:]
        return found

    def drop(self) -> None:
        self.last(1)

    def drop_mark(self) -> None:
        self.above_mark()

    # --- values -------------------------------------------------------------------------------------------------------

    def keep(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        self.push(self.memo[index])

    def append(self, items: list[Any] | tuple[Any, ...]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise PickleRefused("it adds items to what is no list")
        target.extend(items)

    def set_items(self, items: list[Any] | tuple[Any, ...]) -> None:
        self.fill(self.stack[-1], list(zip(items[::2], items[1::2], strict=True)))

    def dictionary(self) -> None:
        items = self.above_mark()
        self.push({})
        self.set_items(items)

    def fill(self, target: object, pairs: list[Any]) -> None:
        if not isinstance(target, dict):
            raise PickleRefused("it sets items of what is no dictionary")
        self.spend(len(pairs))
        for key, value in pairs:
            if not isinstance(key, str | bytes | int):  # a nested tuple is hashed without end
                raise PickleRefused(f"it has {shown(key)} for a key")
            target[key] = value

    def find(self, module: Any, name: Any) -> None:
        found = (_name(module), _name(name))
        if found not in self.known:
            raise PickleRefused(f"it wants to load {found[0]}.{found[1]}, which is no {self.what}")
        self.push(Class(*found))

    def make(self) -> None:
        by, arguments = self.last(2)
        if not isinstance(by, Class) or not isinstance(arguments, tuple):
            raise PickleRefused("it calls what is no class")
        if (by.module, by.name) == ("_codecs", "encode"):
            return self.push(self.python3(arguments))
        if (by.module, by.name) == ("__builtin__", "bytes") and not arguments:
            return self.push(b"")
        if (by.module, by.name) != ("collections", "OrderedDict"):
            return self.push(Made(by, arguments))
        made: dict[Any, Any] = {}
        if arguments:  # Python 2 hands it pairs
            (pairs,) = arguments
            if not isinstance(pairs, list):
                raise PickleRefused("an OrderedDict is made of what is no list")
            self.fill(made, pairs)
        self.push(made)

    def build(self) -> None:
        (state,) = self.last(1)
        target = self.stack[-1]
        if isinstance(target, dict):  # the notes that torch keeps beside a state dict
            return
        if not isinstance(target, Made) or target.state is not None:
            raise PickleRefused("it sets the state of what has none")
        target.state = state

    def python2(self, body: bytes) -> None:
        self.push(body.decode() if self.text else body)

    def python3(self, arguments: tuple[Any, ...]) -> bytes:
        """How Python 3 writes bytes for Python 2. Each text once, for a shared one would be copied without end."""
        text, encoding = arguments
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise PickleRefused("its bytes are written wrongly")
        self.encoded += len(text)
        if self.encoded > self.size:
            raise PickleRefused("it writes the same bytes again and again")
        return text.encode("latin1")

    def integer(self, line: bytes) -> None:
        self.push(line == b"01" if line in (b"00", b"01") else int(line))

    def long(self, size: int) -> None:
        if not 0 <= size <= MAX_NUMBER:
            raise PickleRefused(f"it holds a number of {size} bytes")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def frame(self) -> None:
        if self.number("Q") > self.left:
            raise PickleRefused("the file ends within its pickle")

    def protocol(self) -> None:
        if (version := self.take(1)[0]) > 5:
            raise PickleRefused(f"it is of protocol {version}; known are 0 to 5")


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME or not value.isprintable():
        raise PickleRefused("it wants to load what has no proper name")
    return value


def _quoted(reader: _Reader) -> None:
    line = reader.line().strip()
    if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b'"', b"'"):
        raise PickleRefused("a text of it has no quotes")
    reader.python2(codecs.escape_decode(line[1:-1])[0])


_ACTIONS: dict[bytes, Callable[[_Reader], None]] = {
    b"\x80": _Reader.protocol,
    b"\x95": _Reader.frame,
    # Constants and numbers.
    b"N": lambda r: r.push(None),
    b"\x88": lambda r: r.push(True),
    b"\x89": lambda r: r.push(False),
    b"I": lambda r: r.integer(r.line(MAX_NUMBER)),
    b"L": lambda r: r.push(int(r.line(MAX_NUMBER).removesuffix(b"L"))),
    b"J": lambda r: r.push(r.number("i")),
    b"K": lambda r: r.push(r.number("B")),
    b"M": lambda r: r.push(r.number("H")),
    b"\x8a": lambda r: r.long(r.number("B")),
    b"\x8b": lambda r: r.long(r.number("i")),
    b"F": lambda r: r.push(float(r.line(MAX_NUMBER))),
    b"G": lambda r: r.push(struct.unpack(">d", r.take(8))[0]),
    # Texts and bytes.
    b"S": _quoted,
    b"T": lambda r: r.python2(r.take(r.number("i"))),
    b"U": lambda r: r.python2(r.take(r.number("B"))),
    b"V": lambda r: r.push(r.line().decode("raw-unicode-escape")),
    b"X": lambda r: r.push(r.take(r.number("I")).decode("utf-8", "surrogatepass")),
    b"\x8c": lambda r: r.push(r.take(r.number("B")).decode("utf-8", "surrogatepass")),
    b"\x8d": lambda r: r.push(r.take(r.number("Q")).decode("utf-8", "surrogatepass")),
    b"B": lambda r: r.push(r.take(r.number("I"))),
    b"C": lambda r: r.push(r.take(r.number("B"))),
    b"\x8e": lambda r: r.push(r.take(r.number("Q"))),
    b"\x96": lambda r: r.push(r.take(r.number("Q"))),  # a bytearray, which nobody changes here
    # Lists, tuples, dictionaries.
    b"(": _Reader.mark,
    b"]": lambda r: r.push([]),
    b"l": lambda r: r.push(r.above_mark()),
    b"a": lambda r: r.append(r.last(1)),
    b"e": lambda r: r.append(r.above_mark()),
    b")": lambda r: r.push(()),
    b"t": lambda r: r.push(tuple(r.above_mark())),
    b"\x85": lambda r: r.push(r.last(1)),
    b"\x86": lambda r: r.push(r.last(2)),
    b"\x87": lambda r: r.push(r.last(3)),
    b"}": lambda r: r.push({}),
    b"d": _Reader.dictionary,
    b"s": lambda r: r.set_items(r.last(2)),
    b"u": lambda r: r.set_items(r.above_mark()),
    # The stack and the memo.
    b"0": _Reader.drop,
    b"1": _Reader.drop_mark,
    b"2": lambda r: r.push(r.stack[-1]),
    b"p": lambda r: r.keep(int(r.line(MAX_NUMBER))),
    b"q": lambda r: r.keep(r.number("B")),
    b"r": lambda r: r.keep(r.number("I")),
    b"\x94": lambda r: r.keep(len(r.memo)),
    b"g": lambda r: r.recall(int(r.line(MAX_NUMBER))),
    b"h": lambda r: r.recall(r.number("B")),
    b"j": lambda r: r.recall(r.number("I")),
    # Names, calls, and what lies outside: recorded only.
    b"c": lambda r: r.find(r.line(MAX_NAME).decode(), r.line(MAX_NAME).decode()),
    b"\x93": lambda r: r.find(*r.last(2)),
    b"R": _Reader.make,
    b"b": _Reader.build,
    b"Q": lambda r: r.push(Outside(*r.last(1))),
}
