"""CBOR as Smithy's RPC v2 protocol uses it (RFC 8949; smithy.io, "Smithy RPC v2 CBOR protocol").

Read: every definite and indefinite item, floats of all sizes, tag 1 (epoch seconds, given as a plain number); other
tags are refused. Written, by a shape of botocore's model: definite items, doubles, timestamps with tag 1.
"""

from __future__ import annotations

import struct
from typing import Any

from local_sagemaker.wire.errors import ApiError

_BREAK = object()
_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_EPOCH_SECONDS = 1
_MAX_DEPTH = 64


def loads(data: bytes) -> Any:
    """Raises a SerializationException for what is not one complete CBOR item."""
    reader = _Reader(data)
    value = reader.item(0)
    if reader.offset != len(data) or value is _BREAK:
        raise _malformed(f"the item ends at byte {reader.offset} of {len(data)}")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    def item(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise _malformed(f"it is nested more than {_MAX_DEPTH} deep")
        (initial,) = self._take(1)
        major, info = initial >> 5, initial & 31
        match major:
            case 0:
                return self._length(info)
            case 1:
                return -1 - self._length(info)
            case 2:
                return self._bytes(major, info)
            case 3:
                return self._text(major, info)
            case 4:
                return list(self._items(info, depth))
            case 5:
                items = list(self._items(info, depth, per_entry=2))
                return _map(items[::2], items[1::2])
            case 6:
                return self._tagged(info, depth)
            case _:
                return self._simple(info)

    def _take(self, size: int) -> bytes:
        chunk = self._data[self.offset : self.offset + size]
        if len(chunk) != size:
            raise _malformed(f"it ends in the middle of an item, at byte {len(self._data)}")
        self.offset += size
        return chunk

    def _length(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise _malformed(f"additional information {info} at byte {self.offset}")
        return int.from_bytes(self._take(1 << (info - 24)), "big")

    def _bytes(self, major: int, info: int) -> bytes:
        if info != 31:
            return self._take(self._length(info))
        chunks = []
        while (initial := self._take(1)[0]) != 0xFF:
            if initial >> 5 != major or initial & 31 == 31:
                raise _malformed(f"a chunk of another type at byte {self.offset}")
            chunks.append(self._take(self._length(initial & 31)))
        return b"".join(chunks)

    def _text(self, major: int, info: int) -> str:
        try:
            return self._bytes(major, info).decode()
        except UnicodeDecodeError:
            raise _malformed(f"text that is not UTF-8 before byte {self.offset}") from None

    def _items(self, info: int, depth: int, per_entry: int = 1) -> list[Any]:
        if info != 31:
            # Each item has at least one byte, so a length beyond the data ends in `_take` before it costs memory.
            return [self._inner(depth) for _ in range(self._length(info) * per_entry)]
        items = []
        while (value := self.item(depth + 1)) is not _BREAK:
            items.append(value)
        if len(items) % per_entry:
            raise _malformed(f"a key without its value before byte {self.offset}")
        return items

    def _inner(self, depth: int) -> Any:
        value = self.item(depth + 1)
        if value is _BREAK:
            raise _malformed(f"a break at byte {self.offset}")
        return value

    def _tagged(self, info: int, depth: int) -> int | float:
        tag = self._length(info)
        value = self._inner(depth)
        if tag != _EPOCH_SECONDS or isinstance(value, bool) or not isinstance(value, int | float):
            raise _malformed(f"tag {tag} with {type(value).__name__}; only timestamps have a tag")
        return value

    def _simple(self, info: int) -> Any:
        if info in _SIMPLE:
            return _SIMPLE[info]
        if info in _FLOATS:
            (number,) = struct.unpack(_FLOATS[info], self._take(1 << (info - 24)))
            return number
        if info == 31:
            return _BREAK
        raise _malformed(f"simple value {info}")


def _map(keys: list[Any], values: list[Any]) -> dict[str, Any]:
    if not all(isinstance(key, str) for key in keys):
        raise _malformed("a map key that is not text")
    return {key: value for key, value in zip(keys, values, strict=True) if value is not None}


def dumps(value: Any, shape: Any) -> bytes:
    """`value` as what botocore's `shape` says it is; None is left out of structures."""
    match shape.type_name:
        case "structure":
            entries = [(key, item) for key, item in value.items() if item is not None]
            return _head(5, len(entries)) + b"".join(
                text(key) + dumps(item, shape.members[key]) for key, item in entries
            )
        case "list":
            return _head(4, len(value)) + b"".join(dumps(item, shape.member) for item in value)
        case "map":
            return _head(5, len(value)) + b"".join(text(key) + dumps(item, shape.value) for key, item in value.items())
        case "string":
            return text(value)
        case "blob":
            return _head(2, len(value)) + bytes(value)
        case "boolean":
            return b"\xf5" if value else b"\xf4"
        case "integer" | "long":
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case "timestamp":
            return _head(6, _EPOCH_SECONDS) + _double(value)
        case _:
            return _double(value)


def text(value: str) -> bytes:
    data = value.encode()
    return _head(3, len(data)) + data


def error(code: str, message: str) -> bytes:
    """The body of an error response."""
    return _head(5, 2) + text("__type") + text(code) + text("message") + text(message)


def _head(major: int, length: int) -> bytes:
    if length < 24:
        return bytes([major << 5 | length])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if length < 1 << 8 * size:
            return bytes([major << 5 | info]) + length.to_bytes(size, "big")
    raise OverflowError(f"{length} has no CBOR integer")


def _double(value: float) -> bytes:
    return b"\xfb" + struct.pack(">d", value)


def _malformed(problem: str) -> ApiError:
    return ApiError("SerializationException", f"the request body is not CBOR: {problem}")
