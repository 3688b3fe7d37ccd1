"""A folder of class folders that an importer writes: one file for each picture, under names that a sync takes."""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path, PurePosixPath

from retraining.dataset.names import as_class_name
from retraining.dataset.progress import Progress, in_log
from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.archive import LOOK_BYTES, MAX_FILES, require_room
from retraining.dataset.split import SplitName
from retraining.printable import printable

log = logging.getLogger(__name__)

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
"""Of files' names, which are kept. What a picture is, its bytes tell, at the sync."""
UNKNOWN_ENDING = ".img"
BLOCK_BYTES = 4096
"""Of the disk, which the smallest picture takes."""


class ImageFolder:
    """<split>/<class>/<number>_<name>; without the first where no split is told."""

    def __init__(self, folder: Path, progress: Progress = in_log) -> None:
        self._folder = folder
        self._progress = progress
        self._expected = 0
        self._folders: dict[str, str] = {}
        """Class, as its source calls it → its folder's name."""
        self._looked_bytes = 0
        self.count = 0
        self.left_out = Counter[str]()
        """Why → pictures that are not written."""

    def expect(self, pictures: int) -> None:
        """So many more, as far as is known: of the file that is read next, for example."""
        self._expected += pictures

    def add(self, split: SplitName | None, label: str, name: str, body: bytes) -> None:
        """A picture that its source calls `name`. Raises SourceError for two classes that would have one folder."""
        if self.count == MAX_FILES:
            raise SourceError(f"there are more than {MAX_FILES} pictures; split the data set.")
        folder = self._folder / (split or "") / self._class_folder(label)
        folder.mkdir(parents=True, exist_ok=True)
        called = PurePosixPath(name.replace("\\", "/"))
        ending = called.suffix.lower() if called.suffix.lower() in ENDINGS else UNKNOWN_ENDING
        stem = re.sub(r"[^\w-]+", "_", called.stem.encode(errors="replace").decode())[:60].strip("_")
        # The number keeps two pictures of one name apart, and their order that of the source.
        (folder / f"{self.count:07d}{f'_{stem}' if stem else ''}{ending}").write_bytes(body)
        self.count += 1
        if self._expected:
            self._progress("Written", self.count + self.left_out.total(), self._expected)
        self._looked_bytes += max(len(body), BLOCK_BYTES)
        if self._looked_bytes > LOOK_BYTES:
            self._looked_bytes = 0
            require_room(name, self._folder)

    def tell(self) -> None:
        """What became of names and pictures on the way."""
        for label, folder in self._folders.items():
            if label != folder:
                log.warning("The class %s is called %s: a class's name is a folder's.", printable(label), folder)
        for why, count in self.left_out.items():
            log.warning("Pictures left out: %d (%s).", count, why)

    def _class_folder(self, label: str) -> str:
        if label not in self._folders:
            folder = as_class_name(label)
            if twin := next((other for other, its in self._folders.items() if its.lower() == folder.lower()), None):
                raise SourceError(
                    f"the classes {printable(twin)!r} and {printable(label)!r} would both be called {folder!r}; "
                    "rename one of them at the source."
                )
            self._folders[label] = folder
        return self._folders[label]
