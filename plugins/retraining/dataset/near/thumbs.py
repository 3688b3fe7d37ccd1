"""The thumbs of a sync's images, on disk until they are compared: of 100,000 images they are 105 MB."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from threading import Lock

from retraining.dataset.pictures.thumb import BYTES
from retraining.dataset.pictures.verdict import Rejected, VerifiedImage


class Thumbs:
    """By the identity of their image. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, path.open("w+b")
        self._places: dict[str, int] = {}
        self._lock = Lock()

    def taken(self, verdict: VerifiedImage | Rejected) -> VerifiedImage | Rejected:
        """The same verdict without its thumb, which is kept here."""
        if not isinstance(verdict, VerifiedImage) or not verdict.thumb:
            return verdict
        body = base64.b64decode(verdict.thumb)
        with self._lock:
            if verdict.identity not in self._places:
                self._file.seek(0, 2)
                self._places[verdict.identity] = self._file.tell()
                self._file.write(body)
        return replace(verdict, thumb="")

    def get(self, identity: str) -> bytes | None:
        """BYTES; None where the image was not just read."""
        place = self._places.get(identity)
        if place is None:
            return None
        with self._lock:
            self._file.seek(place)
            return self._file.read(BYTES)

    def close(self) -> None:
        self._file.close()
