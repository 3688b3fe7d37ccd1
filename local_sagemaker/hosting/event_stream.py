"""The wire format of a streamed answer: `application/vnd.amazon.eventstream`, one message per event.

A message is its total length, the length of its headers and a CRC32 of the two (the prelude); the headers; the payload;
and a CRC32 of everything before it. All numbers are big-endian.
"""

from __future__ import annotations

import json
import struct
import zlib

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_STRING = 7
_PRELUDE_BYTES = 12
_CHECKSUM_BYTES = 4


def event(kind: str, payload: bytes) -> bytes:
    """One event of an output stream whose member `kind` is a blob (PayloadPart)."""
    headers = {":event-type": kind, ":content-type": "application/octet-stream", ":message-type": "event"}
    return _message(headers, payload)


def exception(kind: str, **members: str) -> bytes:
    """The modelled error that ends a stream; clients raise it with `members["Message"]`."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return _message(headers, json.dumps(members).encode())


def _message(headers: dict[str, str], payload: bytes) -> bytes:
    block = b"".join(_header(name, value) for name, value in headers.items())
    total = _PRELUDE_BYTES + len(block) + len(payload) + _CHECKSUM_BYTES
    lengths = struct.pack(">II", total, len(block))
    message = b"".join((lengths, _checksum(lengths), block, payload))
    return message + _checksum(message)


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack(">B", len(key)) + key + struct.pack(">BH", _STRING, len(text)) + text


def _checksum(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))
