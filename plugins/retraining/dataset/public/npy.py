"""One array of an .npz or .npy file, read row by row: no more is in memory, and nothing that it pickles is loaded.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.archive import MAX_FILES, ZIP_METHODS

if TYPE_CHECKING:
    import numpy

MAX_HEADER_BYTES = 16 * 1024
"""Of an array; numpy itself reads no more than 10,000 characters, but takes their number from the file."""
BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError,
    TypeError, SyntaxError, OverflowError, MemoryError, tokenize.TokenError,
)  # fmt: skip
"""What zipfile and numpy raise for strangers' bytes."""
AGAIN = "Download it, or save it again."


@dataclass(frozen=True, kw_only=True)
class Npy:
    """An array whose header was read, and whose bytes are as many as that says."""

    name: str
    shape: Sequence[int]
    dtype: numpy.dtype[Any]
    open: Callable[[], IO[bytes]]
    start: int
    """Of its numbers, behind the header."""

    @property
    def count(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def rows(self) -> Iterator[numpy.ndarray[Any, Any]]:
        """Raises SourceError where they end before their time, or their checksum is wrong."""
        import numpy as np

        with self.open() as file:
            self._read(file, self.start, "its header")
            for number in range(self.count):
                body = self._read(file, self.row_bytes, f"number {number + 1} of {self.count}")
                yield np.frombuffer(body, self.dtype).reshape(self.shape[1:])
            self._read(file, 1, "", end=True)

    def _read(self, file: Any, size: int, what: str, *, end: bool = False) -> bytes:
        try:
            body: bytes = file.read(size)
        except BROKEN as error:
            raise SourceError(f"{self.name} is broken: {error}. {AGAIN}") from None
        if len(body) < size and not end:
            raise SourceError(f"{self.name} ends within {what}. {AGAIN}")
        return body


def npy_of(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Npy:
    """Of an .npz file."""
    if info.compress_type not in ZIP_METHODS:
        raise SourceError(f"{name} is packed by method {info.compress_type}; numpy.savez_compressed uses Deflate.")
    return npy_in(name, lambda: archive.open(info), info.file_size)


def npy_in(name: str, opened: Callable[[], IO[bytes]], size: int) -> Npy:
    """An array of numbers or texts. Raises SourceError for another, and for one that is not as its header says."""
    import numpy as np

    try:
        with opened() as file:
            head = io.BytesIO(file.read(MAX_HEADER_BYTES))
        version = np.lib.format.read_magic(head)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"its format is {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(head)
    except (*BROKEN, RecursionError) as error:
        raise SourceError(f"{name} has no header of an array: {str(error)[:200]}. {AGAIN}") from None
    if dtype.hasobject:
        raise SourceError(
            f"{name} holds Python objects, which are never loaded: they may run anything. Save it as numbers: "
            "numpy.stack(pictures), or numpy.array(labels, dtype=int)."
        )
    if dtype.names or dtype.subdtype or not dtype.itemsize or not shape or not all(_is_size(side) for side in shape):
        raise SourceError(f"{name} is {dtype} of shape {shape}, no array of pictures or labels.")
    if by_columns:
        raise SourceError(
            f"{name} is saved by columns (Fortran's order), so that no picture is in one piece. Save "
            "numpy.ascontiguousarray of it."
        )
    found = Npy(name=name, shape=shape, dtype=dtype, open=opened, start=head.tell())
    there = size - found.start
    if found.count > MAX_FILES:
        raise SourceError(f"{name} has {found.count} rows; read are up to {MAX_FILES}.")
    if there != found.count * found.row_bytes:
        raise SourceError(
            f"{name} promises {dtype} of shape {shape}, {found.count * found.row_bytes} bytes, and has {there}. {AGAIN}"
        )
    return found


def _is_size(side: object) -> bool:
    return type(side) is int and side >= 0
