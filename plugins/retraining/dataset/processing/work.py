"""What a job has to look at: names of objects, and by which stamps they were listed. Pure."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from retraining.dataset.sources.bucket import ObjectSource
from retraining.dataset.sources.source import SourceFile
from retraining.dataset.stamp import Stamp
from retraining.printable import printable

FORMAT = 1
MAX_PART_BYTES = 255
"""Of a name in a folder, on Linux."""


class WorkError(ValueError):
    """What a job has to look at is not what was written down."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Of one job."""

    source: ObjectSource
    files: Mapping[str, Stamp]
    """By the names that the source gives them, in their order."""

    @classmethod
    def of(cls, source: ObjectSource, files: Iterable[SourceFile]) -> Work:
        """What of `files` SageMaker can put into a folder: the worker reads the rest, as it reads all without a job."""
        stamps = {file.key: file.stamp for file in files if file.stamp and not file.stamp.startswith("0:")}
        folders = {folder for name in stamps for folder in _folders(name)}
        fit = {name: stamp for name, stamp in stamps.items() if name not in folders and is_path(name)}
        return cls(source=source, files=dict(sorted(fit.items())))

    @property
    def size_bytes(self) -> int:
        return sum(int(stamp.partition(":")[0]) for stamp in self.files.values())

    def manifest(self) -> bytes:
        """SageMaker's ManifestFile."""
        return json.dumps([{"prefix": self.source.uri}, *self.files], ensure_ascii=False).encode()

    def digest(self, *also: str) -> str:
        """Of the work, and of what it is done by."""
        return hashlib.sha256("\n".join((*also, self._text())).encode()).hexdigest()[:20]

    def packed(self) -> bytes:
        return gzip.compress(self._text().encode(), 3, mtime=0)

    @classmethod
    def unpacked(cls, body: bytes) -> Work:
        """Raises WorkError."""
        try:
            head, *lines = map(json.loads, gzip.decompress(body).splitlines())
            if head["format"] != FORMAT:
                raise ValueError(f"its format is {head['format']}, known is {FORMAT}")
            source = ObjectSource(bucket=head["bucket"], prefix=head["prefix"])
            return cls(source=source, files={str(name): str(stamp) for name, stamp in lines})
        except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
            raise WorkError(f"{error}; trigger a new run.") from None

    def _text(self) -> str:
        head = {"format": FORMAT, "bucket": self.source.bucket, "prefix": self.source.prefix}
        return "\n".join(json.dumps(line, separators=(",", ":")) for line in (head, *self.files.items()))


def is_path(name: str) -> bool:
    """Whether a file can have this name below a folder, there and nowhere else."""
    parts = name.split("/")
    return printable(name) == name and not any(
        part in ("", ".", "..") or len(part.encode()) > MAX_PART_BYTES for part in parts
    )


def _folders(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
