"""Pictures as .npy files → class folders: X.npy and y.npy, or a file for each class, as QuickDraw is published.

https://github.com/googlecreativelab/quickdraw-dataset: numpy_bitmap/cat.npy, n x 784 bytes.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from retraining.dataset.progress import Progress, in_log
from retraining.dataset.public.class_names import class_names
from retraining.dataset.public.image_folder import ImageFolder
from retraining.dataset.public.npy import npy_in
from retraining.dataset.public.npz import EXPECTED, Pair, called_apart, files_of, meant, pairs_of, told, write_pairs
from retraining.dataset.source_error import SourceError
from retraining.printable import printable

FOLDERS = re.compile(r"^full(?:_|%2F)numpy_bitmap(?:_|%2F)")
"""Of QuickDraw, which browsers put before the name."""


def write_npy(folder: Path, target: Path, progress: Progress = in_log) -> int:
    """Write `target`/<split>/<class>/<number>.png; returns how many. Raises SourceError."""
    _, files = files_of(folder, ".npy")
    arrays = {
        name: partial(npy_in, printable(name), partial(_open, path), path.stat().st_size)
        for name, path in files.items()
    }
    called, written = called_apart(arrays), ImageFolder(target, progress)
    if any(map(meant, called)):
        pairs = pairs_of(str(folder), called, None)
    elif len(files) > 1:
        pairs = [Pair(split=None, pictures=read(), labels=_class_of(name)) for name, read in arrays.items()]
    else:
        raise SourceError(f"{folder} holds one .npy file; expected are {EXPECTED}, or one for each class.")
    write_pairs(written, pairs, class_names(folder))
    return told(folder, written)


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _class_of(name: str) -> str:
    return FOLDERS.sub("", PurePosixPath(name).stem)
