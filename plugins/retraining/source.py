"""The training and serving code as SageMaker wants it: one sourcedir.tar.gz, the same bytes for the same code."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path


class SourceError(ValueError):
    """The code folder cannot be shipped."""


def pack_source(folder: Path) -> bytes:
    """A tar.gz of the scripts, with every owner, date and order fixed, so that equal code has an equal digest."""
    packed = io.BytesIO()
    # The file name and the time in the gzip header would differ from day to day.
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in source_files(folder):
            entry = tarfile.TarInfo(path.name)
            body = path.read_bytes()
            entry.size, entry.mode, entry.mtime = len(body), 0o644, 0
            tar.addfile(entry, io.BytesIO(body))
    return packed.getvalue()


def source_digest(folder: Path) -> str:
    """Digest of what is shipped: names and contents, independent of compression."""
    digest = hashlib.sha256()
    for path in source_files(folder):
        body = path.read_bytes()
        digest.update(f"{path.name}\0{len(body)}\0".encode() + body)
    return digest.hexdigest()[:20]


def source_files(folder: Path) -> list[Path]:
    """The flat scripts of the ml folder and its requirements.txt, if any; SourceError when train.py is missing."""
    if not (folder / "train.py").is_file():
        raise SourceError(f"{folder} has no train.py. Set RETRAINING_SOURCE_DIR to the folder of the training scripts.")
    return sorted([*folder.glob("*.py"), *folder.glob("requirements.txt")], key=lambda path: path.name)
