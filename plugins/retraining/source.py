"""The training and serving code as SageMaker wants it: one sourcedir.tar.gz, the same bytes for the same code."""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from retraining.imports import reached

PROGRAMS = ("train.py", "inference.py")
"""What makes a model and what answers with it; other programs in the folder only look at either."""
MAX_BYTES = 100 * 1024**2
MAX_FILES = 10_000
LEFT_OUT = {"__pycache__", "node_modules", "thumbs.db", "desktop.ini", "__macosx"}
LEFT_OUT_ENDS = (".pyc", ".pyo", ".egg-info", "~")


class SourceError(ValueError):
    """The code folder cannot be shipped."""


@dataclass(frozen=True)
class Source:
    """The files of a code folder as they were at one moment: path from its root → content, in order."""

    files: Mapping[str, bytes]

    @classmethod
    def read(cls, folder: Path) -> Source:
        """Everything in the folder but caches, environments and names with a dot. Raises SourceError."""
        if not (folder / "train.py").is_file():
            raise SourceError(
                f"{folder} has no train.py. Set RETRAINING_SOURCE_DIR to the folder of the training scripts."
            )
        files: dict[str, bytes] = {}
        size = 0
        try:
            for path in _walk(folder, folder, ()):
                files[_name(folder, path)] = body = path.read_bytes()
                size += len(body)
                if size > MAX_BYTES or len(files) > MAX_FILES:
                    raise _too_large(folder, files)
        except OSError as error:
            raise SourceError(
                f"{error.filename} cannot be read ({error.strerror}); the whole of {folder} is shipped."
            ) from error
        return cls(dict(sorted(files.items())))

    @property
    def digest(self) -> str:
        """Of what is shipped: names and contents, independent of compression."""
        return _digest(self.files)

    @property
    def code_digest(self) -> str:
        """Of what a model depends on: without what only judges or shows trainings, and without notes."""
        counted = reached(self.files, PROGRAMS)
        return _digest({path: body for path, body in self.files.items() if path in counted})

    def packed(self) -> bytes:
        """A tar.gz, with every owner, date, mode and order fixed, so that equal code has an equal digest."""
        packed = io.BytesIO()
        # The file name and the time in the gzip header would differ from day to day.
        with (
            gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=0) as compressed,
            tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path, body in self.files.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode, entry.mtime = len(body), 0o644, 0
                tar.addfile(entry, io.BytesIO(body))
        return packed.getvalue()


def _walk(folder: Path, root: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """The files below a folder. Links are followed: what they lead to is shipped in their place."""
    place = folder.resolve()
    if place in above:
        raise SourceError(f"The link {folder} leads to a folder above itself; remove it, or ship a copy.")
    for path in sorted(folder.iterdir()):
        if _is_left_out(path):
            continue
        kind = _mode(path)
        if stat.S_ISDIR(kind):
            if not (path / "pyvenv.cfg").exists():  # an environment: the container has its own
                yield from _walk(path, root, (*above, place))
        elif stat.S_ISREG(kind):
            yield path
        else:
            raise SourceError(f"{path} is neither a file nor a folder; move it out of {root}, which is shipped whole.")


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            raise SourceError(
                f"The link {path} leads nowhere; remove it, or put there what it should lead to."
            ) from error
        raise


def _is_left_out(path: Path) -> bool:
    name = path.name.lower()
    return name.startswith(".") or name in LEFT_OUT or name.endswith(LEFT_OUT_ENDS)


def _name(folder: Path, path: Path) -> str:
    name = path.relative_to(folder).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"The file name {name!r} in {folder} is not UTF-8; rename it.") from error
    return name


def _too_large(folder: Path, files: Mapping[str, bytes]) -> SourceError:
    largest = sorted(files, key=lambda path: len(files[path]), reverse=True)[:3]
    named = ", ".join(f"{path} ({len(files[path]) / 1024**2:.1f} MiB)" for path in largest)
    return SourceError(
        f"{folder} holds more than {MAX_BYTES // 1024**2} MiB or {MAX_FILES:,} files, the largest so far {named}. "
        "It is shipped whole with every training: move data and results out of it, or into a folder whose name begins "
        "with a dot, which is left out."
    )


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for path, body in files.items():
        digest.update(f"{path}\0{len(body)}\0".encode() + body)
    return digest.hexdigest()[:20]
