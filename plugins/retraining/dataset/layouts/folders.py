"""The folders of a source, with how much lies in each, as its files' names tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".mpo")
"""Of images, in lower case. Others are looked into as well, and count for less where folders are told apart."""
FEW = 0.2
"""Share of a folder's images that may lie beside the folders in it and change nothing."""

Path = tuple[str, ...]


@dataclass
class Folder:
    """What lies in a folder of the source, without what is ignored. Read only when all is in it."""

    folders: dict[str, Folder] = field(default_factory=dict)
    files: int = 0
    """Directly in it, and looking like images."""
    total: int = 0
    """In it and below it, whatever they look like."""
    pictures: int = 0
    """The same, and looking like images."""
    code: bool = False
    """Whether a program's source lies directly in it."""

    @cached_property
    def full(self) -> dict[str, Folder]:
        """Its folders that hold anything at all."""
        return {name: folder for name, folder in self.folders.items() if folder.total}

    @property
    def stray(self) -> bool:
        """Whether so many images lie directly in it that they are not there by mistake."""
        return self.files > FEW * self.pictures

    @cached_property
    def inner(self) -> dict[str, Folder]:
        """The folders that its images lie in, if these are several: it may hold classes, or be one."""
        _, folder = self.unwrapped()
        return folder.full if not folder.stray and len(folder.full) > 1 else {}

    def at(self, path: Iterable[str]) -> Folder | None:
        folder: Folder | None = self
        for name in path:
            folder = folder.folders.get(name) if folder else None
        return folder

    def unwrapped(self) -> tuple[Path, Folder]:
        """The folder itself, or the first below it that holds more than one folder, and the path to it."""
        path: Path = ()
        folder = self
        while len(folder.full) == 1 and not folder.files:
            ((name, folder),) = folder.full.items()
            path = (*path, name)
        return path, folder

    def grow(self, path: Path, *, files: int, pictures: int) -> None:
        """Files in the folder at a path, which is made."""
        folder = self
        for name in (*path, None):
            folder.total += files
            folder.pictures += pictures
            if name is not None:
                folder = folder.folders.setdefault(name, Folder())
        folder.files += pictures


def folders_of(files: Iterable[Path], empty: Iterable[Path] = (), programs: Iterable[Path] = ()) -> Folder:
    """The folders in which files lie, and empty ones; the paths of files end in their names, those of programs, too."""
    root, found = Folder(), list(files)
    alike = [path[-1].lower().endswith(ENDINGS) for path in found]
    some = any(alike)  # names without endings are images where no name has one
    for path, is_alike in zip(found, alike, strict=True):
        root.grow(path[:-1], files=1, pictures=int(is_alike or not some))
    for path in empty:
        root.grow(path, files=0, pictures=0)
    for path in programs:
        if folder := root.at(path[:-1]):
            folder.code = True
    return root
