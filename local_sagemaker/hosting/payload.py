"""The bytes of one request or answer on their way through this program."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

MEMORY_BYTES = 2**18
"""What one payload may hold in memory. A larger one lies in a file that has no name and so vanishes with its holder."""

_CHUNK_BYTES = 2**18


class Payload:
    """Written once, from start to end, then read any number of times. For one task or thread at a time."""

    def __init__(self, folder: Path) -> None:
        """`folder` is on the disk that takes what is too large for memory."""
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES, dir=str(folder))  # noqa: SIM115  # see close
        self.size = 0

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self.size += len(chunk)

    def read(self) -> bytes:
        """All of it, in memory."""
        self._file.seek(0)
        return self._file.read()

    def chunks(self) -> Iterator[bytes]:
        """All of it, piece by piece."""
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            yield chunk

    async def stream(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks():
            yield chunk

    def close(self) -> None:
        self._file.close()
