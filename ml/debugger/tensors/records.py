"""One saved tensor, as smdebug writes it: a TFRecord that holds a TensorFlow Event with one value in it.

    uint64 length | uint32 CRC of the length | the event, `length` bytes | uint32 CRC of the event     (little endian)

smdebug puts the CRC of a constant in place of the event's own (core/tfrecord/record_writer.py), so the payload's CRC
proves nothing and is not looked at; name, lengths and sizes are checked against each other instead. The few messages
of TensorFlow's event.proto, summary.proto and tensor.proto that occur are read by hand: protobuf's own module is not in
every container, and where it is, smdebug pins a version that others cannot have.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from numpy.typing import NDArray

HEADER, FOOTER = 12, 4  # bytes around the event
Span = tuple[int, int]  # where it starts, where it ends
DTYPES: dict[int, np.dtype[Any]] = {  # tensorflow/core/framework/types.proto
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    8: np.dtype("<c8"),
    9: np.dtype("<i8"),
    10: np.dtype("?"),
    17: np.dtype("<u2"),
    18: np.dtype("<c16"),
    19: np.dtype("<f2"),
    22: np.dtype("<u4"),
    23: np.dtype("<u8"),
}
# Field numbers.
WALL_TIME, SUMMARY, VALUE, TAG, TENSOR = 1, 5, 1, 1, 8
DTYPE, SHAPE, CONTENT, STRINGS, DIMENSION, SIZE = 1, 2, 4, 8, 2, 1
MODE_STEP = b"mode_step\x12"  # the key of a map, and the tag of its value, a text after its length
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class CorruptTensors(Exception):
    """A file is not what the format says; the message names the file and what is wrong with it."""


class RecordReader:
    """Decodes records. Remembers each tensor's layout: from step to step mostly only the content differs."""

    def __init__(self) -> None:
        # (name, length) -> (where the summary starts, its bytes before the number of the step, where it goes on, its
        # bytes from there up to the content, dtype, shape)
        self.layouts: dict[tuple[str, int], tuple[int, bytes, int, bytes, np.dtype[Any], tuple[int, ...]]] = {}

    def value(self, record: bytes, name: str) -> NDArray[Any]:
        """The array in a record of the tensor `name`: a view of the record's memory, so copy what must outlive it."""
        known = self.layouts.get((name, len(record)))
        if known is not None:
            start, head, on, rest, dtype, shape = known
            end = on + len(rest)
            if record[start : start + len(head)] == head and record[on:end] == rest:
                return np.frombuffer(record, dtype, shape_size(shape), end).reshape(shape)
        return self.parse(record, name)

    def parse(self, record: bytes, name: str) -> NDArray[Any]:
        try:
            check_length(record)
            summary, tensor = find_tensor(record, name)
            kind, shape, content, strings = read_tensor(record, *tensor)
        except (IndexError, struct.error, UnicodeDecodeError) as error:
            raise CorruptTensors(f"the record of '{name}' is not a TensorFlow event: {error!r}") from error
        if strings:
            return np.array(strings)
        if kind not in DTYPES:
            raise CorruptTensors(f"the record of '{name}' has the unknown data type {kind}")
        dtype, (start, end) = DTYPES[kind], content
        if shape_size(shape) * dtype.itemsize != end - start:
            raise CorruptTensors(f"the record of '{name}' holds {end - start} bytes for the shape {shape} of {dtype}")
        if end > start:
            head, rest = around_step(bytes(record[summary:start]))
            self.layouts[name, len(record)] = summary, head, start - len(rest), rest, dtype, shape
        return np.frombuffer(record, dtype, shape_size(shape), start if end > start else 0).reshape(shape)


def around_step(head: bytes) -> tuple[bytes, bytes]:
    """What of a record's bytes before and after its mode_step is the same at other steps; all, if it is not in them."""
    start = head.find(MODE_STEP) + len(MODE_STEP) + 1
    if start <= len(MODE_STEP):
        return head, b""
    end = start + head[start - 1]
    return (head[:start], head[end:]) if head[start:end].isdigit() else (head, b"")


def wall_time(record: bytes) -> float | None:
    """When the tensor was written, in epoch seconds; None if the record does not tell."""
    if len(record) < HEADER + 9 or record[HEADER] != WALL_TIME << 3 | FIXED64:
        return None
    return float(struct.unpack_from("<d", record, HEADER + 1)[0])


def check_length(record: bytes) -> None:
    (length,) = struct.unpack_from("<Q", record)
    if length != len(record) - HEADER - FOOTER:
        raise CorruptTensors(f"a record of {len(record)} bytes says that its event has {length}")


def find_tensor(record: bytes, name: str) -> tuple[int, Span]:
    """-> (where the summary's bytes start, (start, end) of the tensor message of the value called `name`)."""
    for field, start, end in fields(record, HEADER, len(record) - FOOTER):
        if field != SUMMARY:
            continue
        for inner, value_start, value_end in fields(record, start, end):
            members = {key: (a, b) for key, a, b in fields(record, value_start, value_end)} if inner == VALUE else {}
            tag = members.get(TAG)
            if tag and TENSOR in members and bytes(record[slice(*tag)]).decode() == name:
                return start, members[TENSOR]
    raise CorruptTensors(f"the record that the index gives for '{name}' does not hold it")


def read_tensor(record: bytes, start: int, end: int) -> tuple[int, tuple[int, ...], Span, list[str]]:
    """-> (TensorFlow's number of the data type, shape, (start, end) of the content, the strings of a string tensor)"""
    shape: tuple[int, ...] = ()
    strings: list[str] = []
    dtype, content = 0, (0, 0)
    for field, a, b in fields(record, start, end):
        if field == DTYPE:
            dtype = a
        elif field == SHAPE:
            dimensions = [span for key, *span in fields(record, a, b) if key == DIMENSION]
            sizes = [{key: x for key, x, _ in fields(record, *span)}.get(SIZE, 0) for span in dimensions]
            shape = tuple(sizes)
        elif field == CONTENT:
            content = (a, b)
        elif field == STRINGS:
            strings.append(bytes(record[a:b]).decode())
    return dtype, shape, content, strings


def fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end) of each field of a protobuf message; of a number (its value, where it ends)."""
    while at < end:
        key, at = varint(message, at)
        kind = key & 7
        if kind == VARINT:
            value, at = varint(message, at)
            yield key >> 3, value, at
            continue
        if kind == BYTES:
            size, at = varint(message, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise IndexError(f"wire type {kind} at byte {at}")
        if at + size > end:
            raise IndexError(f"a field of {size} bytes at byte {at} of {end}")
        yield key >> 3, at, at + size
        at += size


def varint(message: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = message[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise IndexError(f"a number of over ten bytes before byte {at}")


def shape_size(shape: tuple[int, ...]) -> int:
    size = 1
    for dimension in shape:
        size *= dimension
    return size
