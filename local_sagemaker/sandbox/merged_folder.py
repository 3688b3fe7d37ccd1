"""Several folders seen as one, as several hosts' uploads meet below one prefix of S3. Made of hard links."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class MergedFolder:
    """`path` has what the sources had at the last `sync`; of files of one name the first source's counts."""

    def __init__(self, path: Path, sources: list[Path], last: str) -> None:
        """Files named `last` say that a folder is complete: they appear after everything else."""
        self.path = path
        self._sources = sources
        self._last = last

    def sync(self) -> None:
        """Add new files, and those that have been replaced. What grows needs no sync: it is the same file."""
        found: dict[str, Path] = {}
        for source in self._sources:
            for name, path in _files(source):
                found.setdefault(name, path)
        for name in sorted(found, key=lambda name: (Path(name).name == self._last, name)):
            with contextlib.suppress(FileNotFoundError):  # a temporary file, gone again
                _link(found[name], self.path / name)


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Backwards by name: an index is looked for before what it tells of, so that it is never there without that."""
    found = []
    for root, folders, names in os.walk(folder):
        folders.sort(reverse=True)
        found += [(str(Path(root, name).relative_to(folder)), Path(root, name)) for name in names]
    return found


def _link(source: Path, target: Path) -> None:
    if source.is_symlink() or (target.exists() and target.samefile(source)):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.link")
    part.unlink(missing_ok=True)
    os.link(source, part)
    part.replace(target)
