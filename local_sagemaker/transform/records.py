"""One input object of a batch transform job cut into records, and records packed into request bodies.

Works on chunks as they come from S3, so that memory holds one record or one body, never the object. What AWS documents
(TransformInput.SplitType): Line splits at newlines and a record keeps its own; a record of RecordIO or TFRecord loses
its frame when it is sent alone and keeps it beside others. The checksums of TFRecord are not verified.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

_CHUNK_BYTES = 2**20
_RECORDIO_MAGIC = 0xCED7230A
_RECORDIO_LENGTH = 2**29 - 1


class BadRecordError(Exception):
    """The object cannot be cut into records; the text says which one is bad, and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Body:
    """What one request sends."""

    count: int
    """Records in it."""
    raw: bytes
    """The records as they lie in the object, where somebody wants to know (millions of small objects would cost more
    than their bytes)."""
    content: bytes


def gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress, never more than a chunk at a time. Raises BadRecordError."""
    decompressor = zlib.decompressobj(wbits=31)
    begun = False
    for chunk in chunks:
        while chunk:
            if decompressor.eof:  # gzip files may be several, one after the other
                decompressor = zlib.decompressobj(wbits=31)
            begun = True
            try:
                yield decompressor.decompress(chunk, _CHUNK_BYTES)
            except zlib.error as error:
                raise BadRecordError(f"it is not a gzip file: {error}") from error
            chunk = decompressor.unconsumed_tail or decompressor.unused_data
    while begun and not decompressor.eof:
        rest = decompressor.decompress(decompressor.unconsumed_tail, _CHUNK_BYTES)
        if not rest:
            raise BadRecordError("it is not a whole gzip file: its end is missing")
        yield rest


def split(chunks: Iterable[bytes], split_type: str, *, framed: bool, max_bytes: int) -> Iterator[bytes]:
    """The records of an object. `framed`: records of RecordIO and TFRecord with their frames. 0 means no limit.

    Raises BadRecordError, for a record over the limit as soon as it is.
    """
    if split_type == "Line":
        return _lines(chunks, max_bytes)
    if split_type == "RecordIO":
        return _recordio(_Reader(chunks), framed, max_bytes)
    if split_type == "TFRecord":
        return _tfrecord(_Reader(chunks), framed, max_bytes)
    return _whole(chunks, max_bytes)


def pack(
    records: Iterable[bytes],
    *,
    several: bool,
    max_bytes: int,
    prepare: Callable[[bytes], bytes] | None = None,
    keep: bool = True,
) -> Iterator[Body]:
    """Request bodies of one record each, or of as many as fit. `prepare` makes the bytes to send from a record.

    Without `keep` a body does not remember its records.
    """
    count, raw, content = 0, bytearray(), bytearray()
    for record in records:
        sent = prepare(record) if prepare else record
        if count and (not several or (max_bytes and len(content) + len(sent) > max_bytes)):
            yield Body(count, bytes(raw), bytes(content))
            count, raw, content = 0, bytearray(), bytearray()
        count += 1
        content += sent
        if keep:
            raw += record
    if count:
        yield Body(count, bytes(raw), bytes(content))


def _whole(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    parts = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if max_bytes and size > max_bytes:
            raise BadRecordError(f"413: it is over MaxPayloadInMB ({max_bytes // 2**20})")
        parts.append(chunk)
    yield b"".join(parts)


def _lines(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    number = 1
    rest = bytearray()
    for chunk in chunks:
        *complete, last = chunk.split(b"\n")
        for line in complete:
            whole = bytes(rest) + line + b"\n" if rest else line + b"\n"
            rest.clear()
            _check_size(len(whole), number, max_bytes)
            yield whole
            number += 1
        rest += last
        _check_size(len(rest), number, max_bytes)
    if rest:
        yield bytes(rest)


class _Reader:
    """Bytes of a stream of chunks, by number."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = bytearray()

    def take(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        while len(self._buffer) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._buffer += chunk
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def exactly(self, size: int, number: int) -> bytes:
        taken = self.take(size)
        if len(taken) < size:
            raise BadRecordError(f"record {number} is cut off: {len(taken)} of {size} bytes are there")
        return taken


def _recordio(reader: _Reader, framed: bool, max_bytes: int) -> Iterator[bytes]:
    """MXNet's format: magic, 3 bits of flag and 29 of length, data, padding to four bytes.

    A record that holds the magic number itself is written in parts (flags 1, 2 …, 3), and the magic is left out.
    """
    number, frames, data = 1, b"", b""
    while header := reader.take(8):
        magic, word = struct.unpack("<II", header) if len(header) == 8 else (0, 0)
        if magic != _RECORDIO_MAGIC:
            raise BadRecordError(f"record {number} does not start with the magic number of RecordIO")
        flag, length = word >> 29, word & _RECORDIO_LENGTH
        if flag not in ((2, 3) if frames else (0, 1)):
            raise BadRecordError(f"record {number} of the RecordIO file has its parts in disorder")
        _check_size(len(frames if framed else data) + length, number, max_bytes)
        part = reader.exactly(length + -length % 4, number)
        data += (header[:4] if frames else b"") + part[:length]
        frames += header + part
        if flag in (0, 3):
            yield frames if framed else data
            number, frames, data = number + 1, b"", b""
    if frames:
        raise BadRecordError(f"record {number} is cut off: its last part is missing")


def _tfrecord(reader: _Reader, framed: bool, max_bytes: int) -> Iterator[bytes]:
    """TensorFlow's format: length, its checksum, data, its checksum."""
    number = 1
    while header := reader.take(12):
        if len(header) < 12:
            raise BadRecordError(f"record {number} is cut off in its header")
        (length,) = struct.unpack("<Q", header[:8])
        _check_size(length, number, max_bytes or 2**32)
        rest = reader.exactly(length + 4, number)
        yield header + rest if framed else rest[:length]
        number += 1


def _check_size(size: int, number: int, max_bytes: int) -> None:
    if max_bytes and size > max_bytes:
        raise BadRecordError(f"413: record {number} is over MaxPayloadInMB ({max_bytes // 2**20})")
