"""Pictures and labels as arrays of numpy's files → class folders: Keras' mnist.npz, MedMNIST, one's own.

x_train, y_train, x_test, y_test; train_images, train_labels, val_images, …; images and labels; X and y: in one .npz, or
each in a file called so (Kuzushiji-49; .npy, see `npy_files`). Pictures of n x h x w (grey), with 1 or 3 channels
behind that or before h, or n rows of a square's pixels. Bytes stay as they are, uint16 becomes 16-bit grey, and other
numbers are read where each is exactly a byte on some scale.
"""

from __future__ import annotations

import logging
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from retraining.dataset.layouts.folder_names import SPLIT_WORDS
from retraining.dataset.progress import Progress, in_log
from retraining.dataset.public.class_names import ClassNames, class_names, named
from retraining.dataset.public.image_folder import ImageFolder
from retraining.dataset.public.npy import AGAIN, BROKEN, Npy, npy_of
from retraining.dataset.public.png import MAX_PICTURE_BYTES, NAMELESS, png_of
from retraining.dataset.public.scales import SCALES, WHOLE, Scale, scale_of
from retraining.dataset.public.shard_names import splits_of_one_set
from retraining.dataset.source_error import SourceError
from retraining.dataset.sources.archive import require_bounded
from retraining.dataset.split import SplitName
from retraining.printable import printable
from retraining.zip_file import open_zip

if TYPE_CHECKING:
    import numpy

log = logging.getLogger(__name__)

PICTURES = {"x", "image", "images", "img", "imgs", "pixels", "data"}
LABELS = {"y", "label", "labels", "target", "targets"}
CHANNELS = (1, 3)
MAX_ARRAYS, SHOWN = 1_000, 12
MOST_APART = 12
"""Files of one array each: two of each split, and some."""
MAX_LABEL_BYTES = 4_000
"""Of a label that is a text: numpy pads all to the longest."""
EXPECTED = "x_train and y_train, train_images and train_labels, images and labels, or X and y"

Read = Callable[[], Npy]
"""An array, when it is wanted: others may be of what is never loaded."""
Turn = Callable[["numpy.ndarray[Any, Any]"], "numpy.ndarray[Any, Any]"]
"""From one row of an array to (h, w) or (h, w, 3)."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    split: SplitName | None
    pictures: Npy
    labels: Npy | str
    """One for each, or that of all."""


def write_npz(source: Path, target: Path, progress: Progress = in_log) -> int:
    """Write `target`/<split>/<class>/<number>.png of a folder or one file; returns how many.

    Raises SourceError for what is no such data set, ArchiveError for what unpacks without end.
    """
    folder, files = files_of(source, ".npz")
    written = ImageFolder(target, progress)
    if 1 < len(files) <= MOST_APART and all(_is_alone(name, path) for name, path in files.items()):
        with ExitStack() as stack:
            arrays = {}
            for name, path in files.items():
                archive = stack.enter_context(_opened(printable(name), path))
                arrays[name] = partial(npy_of, printable(name), archive, archive.infolist()[0])
            write_pairs(written, pairs_of(str(source), called_apart(arrays), None), class_names(folder))
        return told(source, written)
    shapes: dict[str, Sequence[int]] = {}
    for name, split in splits_of_one_set(files).items():
        with _opened(printable(name), files[name]) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            arrays = {
                called: partial(npy_of, f"{printable(name)}: {_shown(called)}", archive, info)
                for called, info in infos.items()
            }
            pairs = pairs_of(printable(name), arrays, split)
            shapes |= {pair.pictures.name: pair.pictures.shape[1:] for pair in pairs}
            _require_alike(shapes)
            write_pairs(written, pairs, class_names(files[name].parent, folder))
    return told(source, written)


def _is_alone(name: str, path: Path) -> bool:
    """Whether a file has one array: Kuzushiji-49 has each in its own."""
    with _opened(printable(name), path) as archive:
        return len(archive.infolist()) == 1


def files_of(source: Path, ending: str) -> tuple[Path, dict[str, Path]]:
    """The folder, and those in it by their names there."""
    folder = source if source.is_dir() else source.parent
    paths = [source] if source.is_file() else sorted(path for path in source.rglob(f"*{ending}") if path.is_file())
    if not paths:
        raise SourceError(f"{source} holds no {ending} file; is it another data set?")
    return folder, {path.relative_to(folder).as_posix(): path for path in paths}


def called_apart(arrays: Mapping[str, Read]) -> dict[str, Read]:
    """Arrays of files by what is other in the files' names: k49-train-imgs.npz → train imgs."""
    words = {name: _words(PurePosixPath(name).stem) for name in arrays}
    common = set.intersection(*map(set, words.values())) if len(arrays) > 1 else set[str]()
    called: dict[str, Read] = {}
    for name, read in arrays.items():
        rest = " ".join(word for word in words[name] if word not in common)
        if called.setdefault(rest, read) is not read:
            raise SourceError(f"{printable(name)} is called as another file is; put those of each set into a folder.")
    return called


def write_pairs(written: ImageFolder, pairs: Sequence[Pair], classes: ClassNames | None) -> None:
    """All of one set."""
    _require_alike({pair.pictures.name: pair.pictures.shape[1:] for pair in pairs})
    scale = _scale(pairs)
    for pair in pairs:
        written.expect(pair.pictures.count)
    for pair in pairs:
        _write(written, pair, scale, classes)


def told(source: Path, written: ImageFolder) -> int:
    written.tell()
    if not written.count:
        raise SourceError(f"{source}: its arrays hold no picture.")
    return written.count


@contextmanager
def _opened(name: str, path: Path) -> Iterator[zipfile.ZipFile]:
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(open_zip(path, MAX_ARRAYS))
        except BROKEN as error:
            raise SourceError(f"{name} cannot be read as .npz: {error}. {AGAIN}") from None
        require_bounded(name, path.stat().st_size, sum(info.file_size for info in archive.infolist()))
        yield archive


def pairs_of(name: str, arrays: Mapping[str, Read], split: SplitName | None) -> list[Pair]:
    """The arrays by what they are called. `split`: of the file, where its arrays say none."""
    pictures, labels, others = dict[SplitName | None, Npy](), dict[SplitName | None, Npy](), list[str]()
    for called, read in arrays.items():
        if (found_as := meant(called)) is None:
            others.append(_shown(called))
            continue
        found, of = (pictures if found_as[0] else labels), found_as[1] or split
        npy = read()
        if (twin := found.setdefault(of, npy)) is not npy:
            raise SourceError(f"{twin.name} and {_shown(called)} may be the same; leave one of them out.")
    if not pictures and not labels:
        raise SourceError(f"{name} has the arrays {', '.join(others[:SHOWN]) or 'none'}; call them {EXPECTED}.")
    for lone in [
        *(pictures[of] for of in pictures if of not in labels),
        *(labels[of] for of in labels if of not in pictures),
    ]:
        raise SourceError(f"{lone.name} has no partner of the same split in {name}; call them {EXPECTED}.")
    if others:
        log.warning("Left out of %s: the arrays %s, which are called otherwise.", name, ", ".join(others[:SHOWN]))
    pairs = [Pair(split=of, pictures=pictures[of], labels=labels[of]) for of in pictures]
    if None in pictures and len(pairs) > 1:
        raise SourceError(f"{pictures[None].name} says no split, and others do; leave it out, or name its split.")
    for pair in pairs:
        _require_labels(pair.pictures, labels[pair.split])
    return pairs


def _shown(called: str) -> str:
    return printable(called.removesuffix(".npy"))


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", name.removesuffix(".npy").lower()) if word]


def meant(called: str) -> tuple[bool, SplitName | None] | None:
    """Whether an array is of pictures, and its split; None for one of other things."""
    words = _words(called)
    splits = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    what = [word for word in words if word not in SPLIT_WORDS]
    if len(what) != 1 or len(splits) > 1 or what[0] not in PICTURES | LABELS:
        return None
    return what[0] in PICTURES, (splits[0] if splits else None)


def _require_labels(pictures: Npy, labels: Npy) -> None:
    if len(labels.shape) > 2 or math.prod(labels.shape[1:]) != 1:
        raise SourceError(
            f"{labels.name} is of shape {labels.shape}: several numbers for a picture are several labels, which "
            "no class folder can tell. Where exactly one of them is 1, save labels.argmax(axis=1)."
        )
    if labels.dtype.kind not in "iuUS" or labels.dtype.itemsize > MAX_LABEL_BYTES:
        raise SourceError(
            f"{labels.name} is {labels.dtype}; labels are whole numbers or texts: save labels.astype(int)."
        )
    if labels.count != pictures.count:
        raise SourceError(f"{pictures.name} has {pictures.count} pictures, and {labels.name} {labels.count} labels.")


def _require_alike(shapes: Mapping[str, Sequence[int]]) -> None:
    first, *others = shapes
    for other in others:
        if shapes[other] != shapes[first]:
            raise SourceError(
                f"{other} has pictures of {shapes[other]}, and {first} of {shapes[first]}: they are not of one set. "
                "Name one file as the source."
            )


def _scale(pairs: Sequence[Pair]) -> Scale | None:
    """Of all of a file's pictures, which are read once more for it; None where they are bytes or 16-bit grey."""
    kinds = {pair.pictures.dtype.newbyteorder("=").name for pair in pairs}
    first = pairs[0].pictures
    if len(kinds) > 1:
        raise SourceError(f"{first.name} and others are of {' and '.join(sorted(kinds))}; save them as one kind.")
    (kind,) = kinds
    if kind in ("uint8", "uint16"):
        return None
    if first.dtype.kind not in "iub" and kind not in ("float32", "float64"):
        raise SourceError(
            f"{first.name} is {kind}; pictures are bytes (uint8), 16-bit grey (uint16), or float32, float64 and whole "
            "numbers that stand for bytes. Save them as uint8."
        )
    scales = (WHOLE,) if first.dtype.kind in "iu" else SCALES
    for pair in pairs:
        _turn(pair.pictures)
    found = scale_of((row for pair in pairs for row in pair.pictures.rows()), scales)
    if found is None:
        names = " or ".join(scale.name for scale in scales)
        raise SourceError(
            f"{first.name} is {kind}, and its values are not those of bytes on one scale ({names}): to round them "
            "would change the pictures. Save them as bytes, before they are normalised, or round them yourself: "
            "(x * 255).round().astype('uint8') where they are 0 to 1."
        )
    return found


def _write(written: ImageFolder, pair: Pair, scale: Scale | None, classes: ClassNames | None) -> None:
    import numpy as np

    turn = _turn(pair.pictures)
    labels = repeat(pair.labels) if isinstance(pair.labels, str) else _labels(pair.labels, classes)
    for row, called in zip(pair.pictures.rows(), labels, strict=not isinstance(pair.labels, str)):
        if not called:
            written.left_out["without a label"] += 1
            continue
        values = scale.bytes_of(row) if scale else row.astype(row.dtype.newbyteorder("="))
        assert values is not None  # as the scale was chosen
        written.add(pair.split, called, NAMELESS, png_of(np.ascontiguousarray(turn(values))))


def _labels(labels: Npy, classes: ClassNames | None) -> Iterator[str]:
    for number, row in enumerate(labels.rows(), 1):
        where = f"{labels.name}: number {number}"
        label = _label(where, row)
        yield named(where, label, classes) if label else ""


def _label(where: str, value: numpy.ndarray[Any, Any]) -> str:
    try:
        label = value.item()
        text = label.decode() if isinstance(label, bytes) else str(label)
    except (ValueError, SystemError):
        raise SourceError(f"{where} is no text in UTF-8; correct it.") from None
    if isinstance(label, int) and label < 0:
        raise SourceError(f"{where} is {label}; classes are counted from 0. Leave out pictures without a class.")
    return text.strip()


def _turn(pictures: Npy) -> Turn:
    """How one picture of the array lies. Raises SourceError for what is none."""
    shape, sides = pictures.shape, pictures.shape[1:]
    turned = _turned(pictures)
    if not all(sides) or pictures.row_bytes > MAX_PICTURE_BYTES:
        raise SourceError(f"{pictures.name} is of shape {shape}; a picture has 1 to {MAX_PICTURE_BYTES} bytes.")
    if turned is None:
        raise SourceError(
            f"{pictures.name} is of shape {shape}. Pictures are n x height x width, with 1 or 3 channels at the end or "
            "before the height, or n x the pixels of a square; reshape them."
        )
    if pictures.dtype.itemsize == 2 and pictures.dtype.kind == "u" and 3 in _channels(shape):
        raise SourceError(
            f"{pictures.name} is uint16 in three channels, and PNG files here are so in grey only; save bytes."
        )
    return turned


def _channels(shape: Sequence[int]) -> list[int]:
    return [side for side in (shape[1], shape[3]) if side in CHANNELS] if len(shape) == 4 else []


def _turned(pictures: Npy) -> Turn | None:
    shape = pictures.shape
    if len(shape) == 2:
        side = math.isqrt(shape[1])
        return (lambda row: row.reshape(side, side)) if side * side == shape[1] else None
    if len(shape) == 3:
        return lambda row: row
    if len(shape) != 4 or not _channels(shape):
        return None
    if len(_channels(shape)) > 1:
        raise SourceError(
            f"{pictures.name} is of shape {shape}: its channels may be the first or the last. Save larger pictures."
        )
    if shape[3] in CHANNELS:
        return lambda row: row[:, :, 0] if row.shape[2] == 1 else row
    return lambda row: row[0] if row.shape[0] == 1 else row.transpose(1, 2, 0)
