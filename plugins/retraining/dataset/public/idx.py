"""Pictures and labels as IDX files, in which MNIST, Fashion-MNIST, KMNIST and EMNIST are published → class folders.

A header (two zeros, the type of the numbers, how many dimensions, and each of them) and then bytes: pictures of n x
height x width, labels of n. http://yann.lecun.com/exdb/mnist/; Fashion-MNIST and others call their files as MNIST does.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from retraining.dataset.layouts.importable import IDX
from retraining.dataset.progress import Progress, in_log
from retraining.dataset.public.class_names import ClassNames, class_names, named
from retraining.dataset.public.emnist import is_emnist, mapping_beside
from retraining.dataset.public.image_folder import ImageFolder
from retraining.dataset.public.png import MAX_PICTURE_BYTES, NAMELESS, png_of
from retraining.dataset.public.shard_names import splits_of_one_set
from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.archive import GZIP, MAX_FILES, require_bounded
from retraining.dataset.split import SplitName
from retraining.printable import printable

log = logging.getLogger(__name__)

WHAT = ("images", "labels")
TYPES = {0x08: "unsigned bytes", 0x09: "signed bytes", 0x0B: "shorts", 0x0C: "ints", 0x0D: "floats", 0x0E: "doubles"}
BYTES, INTS = 0x08, 0x0C
Kinds = Sequence[tuple[int, int]]
PICTURES: Kinds = ((BYTES, 3),)
LABELS: Kinds = ((BYTES, 1), (INTS, 2))
"""Type and dimensions. QMNIST's labels are ints, with seven more behind the class: who wrote it, and so on."""
AGAIN = " Download it again."

Pair = Mapping[str, Path]
"""`images` and `labels` → the file."""


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """An IDX file behind its header."""

    name: str
    file: IO[bytes]
    shape: Sequence[int]
    number_bytes: int = 1

    @property
    def row_bytes(self) -> int:
        """Of one picture or label."""
        return math.prod(self.shape[1:]) * self.number_bytes

    def take(self, size: int, number: int) -> bytes:
        """Of one picture or label, the `number`th from 0 on."""
        body = self.read(size)
        if len(body) < size:
            raise SourceError(
                f"{self.name} ends within number {number + 1} of the {self.shape[0]} that its header promises.{AGAIN}"
            )
        return body

    def require_end(self) -> None:
        if self.read(1):
            raise SourceError(f"{self.name} goes on behind the {self.shape[0]} that its header promises.{AGAIN}")

    def read(self, size: int) -> bytes:
        try:
            return self.file.read(size)
        except (EOFError, zlib.error, OSError) as error:
            raise SourceError(f"{self.name} is broken: {error}.{AGAIN}") from None


def write_idx(folder: Path, target: Path, progress: Progress = in_log) -> int:
    """Write `target`/<split>/<class>/<number>.png; returns how many. Raises SourceError, ArchiveError."""
    pairs = _pairs(folder)
    written = ImageFolder(target, progress)
    for name, split in splits_of_one_set(pairs).items():
        pair = pairs[name]
        classes = mapping_beside(pair["images"]) or class_names(pair["images"].parent, folder)
        _write(written, split, pair, folder, classes)
    written.tell()
    if not written.count:
        raise SourceError(f"{folder}: its IDX files hold no picture.")
    return written.count


def _pairs(folder: Path) -> dict[str, Pair]:
    """A name that tells the split → its two files. Kaggle's MNIST has each once more, in a folder of its own."""
    found: dict[str, dict[str, Path]] = {}
    # Unpacked ones first: torchvision leaves both.
    for path in sorted(folder.rglob("*"), key=lambda path: (path.suffix == ".gz", path)):
        if (match := IDX.fullmatch(path.name)) and path.is_file():
            above = path.parent.relative_to(folder).as_posix()
            stem = re.sub("t10k", "test", match["stem"], flags=re.IGNORECASE)
            found.setdefault(f"{above}/{stem}.idx".removeprefix("./"), {}).setdefault(match["what"].lower(), path)
    if not found:
        raise SourceError(
            f"{folder} holds no IDX file; they are called train-images-idx3-ubyte, train-labels-idx1-ubyte, "
            "t10k-images-idx3-ubyte and so on, .gz or not. Is it another data set?"
        )
    whole = [name for name, pair in found.items() if len(pair) == len(WHAT)]
    depth = min(name.count("/") for name in (whole or found))
    pairs = {name: pair for name, pair in found.items() if name.count("/") == depth}
    for pair in pairs.values():
        for what, other in (WHAT, WHAT[::-1]):
            if what not in pair:
                lone = pair[other].relative_to(folder).as_posix()
                raise SourceError(
                    f"{printable(lone)} has no file of {what} beside it: the two differ by that word and the number "
                    "behind idx. Put it there, or leave this one out."
                )
    if left := [name for name in found if name not in pairs]:
        log.warning("Left out, for they lie deeper than others: %s.", ", ".join(map(printable, left[:4])))
    return dict(sorted(pairs.items()))


def _write(written: ImageFolder, split: SplitName | None, pair: Pair, folder: Path, classes: ClassNames | None) -> None:
    import numpy as np

    names = {what: printable(path.relative_to(folder).as_posix()) for what, path in pair.items()}
    on_side = is_emnist(pair["images"].name)
    with contextlib.ExitStack() as stack:
        images = stack.enter_context(_opened(names["images"], pair["images"], PICTURES))
        labels = stack.enter_context(_opened(names["labels"], pair["labels"], LABELS))
        count, height, width = images.shape
        if count != labels.shape[0]:
            raise SourceError(
                f"{images.name} has {count} pictures, and {labels.name} {labels.shape[0]} labels: they are not of one "
                f"set.{AGAIN}"
            )
        written.expect(count)
        for number in range(count):
            label, body = labels.take(labels.row_bytes, number), images.take(height * width, number)
            told = str(int.from_bytes(label[: labels.number_bytes]))
            pixels = np.frombuffer(body, np.uint8).reshape(height, width)
            called = named(f"{labels.name}: number {number + 1}", told, classes)
            written.add(split, called, NAMELESS, png_of(pixels.T if on_side else pixels))
        images.require_end()
        labels.require_end()


@contextlib.contextmanager
def _opened(name: str, path: Path, kinds: Kinds) -> Iterator[_Opened]:
    """By its first bytes: browsers unpack a .gz and keep its name."""
    with path.open("rb") as plain:
        packed = plain.read(len(GZIP)) == GZIP
        plain.seek(0)
        with contextlib.ExitStack() as stack:
            file: Any = stack.enter_context(gzip.open(plain)) if packed else plain
            headed = _headed(_Opened(name=name, file=file, shape=()), kinds)
            _require_sane(headed, path.stat().st_size, packed=packed)
            yield headed


def _headed(opened: _Opened, kinds: Kinds) -> _Opened:
    head = opened.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES:
        raise SourceError(
            f"{opened.name} is no IDX file: it begins with {head!r}, not with two zeros and a type.{AGAIN}"
        )
    kind, dimensions = head[2:]
    if (kind, dimensions) not in kinds or (kind == INTS and "qmnist" not in opened.name.lower()):
        wanted = "labels have one: how many" if kinds == LABELS else "pictures have three: how many, height, width"
        raise SourceError(
            f"{opened.name} holds {TYPES[kind]} in {dimensions} dimensions. What is read is unsigned bytes (type 8), "
            f"of which {wanted}; write it so."
        )
    sizes = opened.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise SourceError(f"{opened.name} ends within its header.{AGAIN}")
    shape = struct.unpack(f">{dimensions}I", sizes)
    return _Opened(name=opened.name, file=opened.file, shape=shape, number_bytes=4 if kind == INTS else 1)


def _require_sane(opened: _Opened, size: int, *, packed: bool) -> None:
    """Before anything of what the header promises is read or written."""
    shown, promised = " x ".join(map(str, opened.shape)), opened.shape[0] * opened.row_bytes
    if not all(opened.shape[1:]):
        raise SourceError(f"{opened.name} promises pictures of {shown}, which have no pixel.{AGAIN}")
    if opened.shape[0] > MAX_FILES or opened.row_bytes > MAX_PICTURE_BYTES:
        raise SourceError(
            f"{opened.name} promises {shown} bytes; read are up to {MAX_FILES} pictures of {MAX_PICTURE_BYTES} bytes "
            "each. Is it damaged?"
        )
    there = size - 4 - 4 * len(opened.shape)
    if packed:
        require_bounded(opened.name, size, promised)
    elif there != promised:
        raise SourceError(f"{opened.name} promises {shown} bytes, and has {there} behind its header.{AGAIN}")
