"""CIFAR-10 and CIFAR-100 as their makers publish them: Python 2 pickles of arrays → PNG files.

Nothing of the pickle is run or built: `plain_pickle` tells what numpy was to make, and an array is made here, of its
bytes, where that is plainly an array of bytes.
Format: https://www.cs.toronto.edu/~kriz/cifar.html (data: uint8 (n, 3072), the red, green and blue planes of 32x32).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retraining import plain_pickle
from retraining.dataset.progress import Progress, in_log
from retraining.dataset.public.image_folder import ImageFolder
from retraining.dataset.public.png import png_of
from retraining.dataset.source_error import SourceError
from retraining.dataset.split import SplitName
from retraining.plain_pickle import Made, PickleRefused, is_made, shown

if TYPE_CHECKING:
    import numpy

MAX_BYTES = 512 * 1024**2
"""Of one file: the makers' largest has 155 MB."""
MAX_LABELS, MAX_TEXT = 1_000, 1_000
MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
KNOWN = {
    *((module, name) for module in MODULES for name in ("dtype", "ndarray", "_reconstruct", "_frombuffer")),
    ("_codecs", "encode"),  # how Python 3 writes bytes for Python 2
    ("__builtin__", "bytes"),
}
SIDE = 32


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """Which of the two: what its files and their keys are called."""

    name: str
    meta: str
    names: str
    """Key of the classes' names in `meta`."""
    labels: str
    """Key of the labels in the others."""
    splits: Mapping[str, SplitName]
    """File → its split."""

    @property
    def files(self) -> tuple[str, ...]:
        return (self.meta, *self.splits)


CIFAR_10 = Cifar(
    name="CIFAR-10",
    meta="batches.meta",
    names="label_names",
    labels="labels",
    splits={**{f"data_batch_{number}": "train" for number in range(1, 6)}, "test_batch": "test"},
)
CIFAR_100 = Cifar(
    name="CIFAR-100",
    meta="meta",
    names="fine_label_names",
    labels="fine_labels",
    splits={"train": "train", "test": "test"},
)


def write_cifar(which: Cifar, folder: Path, target: Path, progress: Progress = in_log) -> int:
    """Write `target`/{train,test}/<class>/<picture>.png; returns how many. Raises SourceError for other content."""
    (names,) = _members(which, folder / which.meta, which.names)
    try:
        classes = [_text(name) for name in _list(names, MAX_LABELS)]
    except PickleRefused as error:
        raise SourceError(f"{which.meta} is not a file of {which.name}: {which.names}: {error}.") from None
    written = ImageFolder(target, progress)
    for file, split in which.splits.items():
        _write_file(which, folder / file, written, split, classes)
    written.tell()
    return written.count


def _write_file(which: Cifar, path: Path, written: ImageFolder, split: SplitName, classes: list[str]) -> None:
    data, labels, names = _members(which, path, "data", which.labels, "filenames")
    try:
        labels, names, pixels = _list(labels), _list(names), _array(data)
    except PickleRefused as error:
        raise SourceError(f"{path.name} is not a file of {which.name}: {error}.") from None
    if pixels.shape != (len(labels), 3 * SIDE * SIDE) or len(names) != len(labels):
        raise SourceError(
            f"{path.name}: data is {pixels.shape} for {len(labels)} labels; {which.name} has 3072 bytes an image."
        )
    written.expect(len(labels))
    for number, (image, label, name) in enumerate(zip(pixels, labels, names, strict=True)):
        if not (isinstance(label, int) and 0 <= label < len(classes)):
            there = f"there are {len(classes)} classes"
            raise SourceError(f"{path.name}: image {number} has the label {shown(label)}; {there}.")
        try:
            called = _text(name)
        except PickleRefused as error:
            raise SourceError(f"{path.name}: image {number} has no name: {error}.") from None
        picture = image.reshape(3, SIDE, SIDE).transpose(1, 2, 0)
        written.add(split, classes[label], f"{Path(called).stem}.png", png_of(picture))


def _members(which: Cifar, path: Path, *names: str) -> list[Any]:
    """Of the file's dictionary. Python 2 wrote the keys as bytes; whoever wrote the file again may have text."""
    try:
        if not path.is_file():
            raise SourceError(f"{path.name} is no file; is it another data set?")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise SourceError(f"{path.name} has {size} bytes, a file of {which.name} at most {MAX_BYTES}.")
        with path.open("rb") as file:
            content = plain_pickle.load(file, KNOWN, "array")
    except (PickleRefused, OSError) as error:
        raise SourceError(f"{path.name} is not a file of {which.name}: {error}") from None
    found = content if isinstance(content, dict) else {}
    if missing := [name for name in names if name not in found and name.encode() not in found]:
        other = CIFAR_10 if which is CIFAR_100 else CIFAR_100
        raise SourceError(f"{path.name} has no {missing[0]}; is it {other.name}, or another data set?")
    return [found[name.encode()] if name.encode() in found else found[name] for name in names]


def _array(value: object) -> numpy.ndarray[Any, Any]:
    """An array of bytes in two dimensions, from what numpy of either kind was to make of it."""
    import numpy as np

    if is_made(value, "_reconstruct"):
        assert isinstance(value, Made)
        if not isinstance(value.state, tuple) or len(value.state) != 5:
            raise PickleRefused("data is an array without content")
        _, shape, kind, by_columns, body = value.state
    elif is_made(value, "_frombuffer"):
        assert isinstance(value, Made)
        if len(value.arguments) != 4:
            raise PickleRefused("data is an array without content")
        body, kind, shape, order = value.arguments
        by_columns = order == "F"
    else:
        raise PickleRefused(f"data is {shown(value)}, no array")
    if not _is_byte(kind):
        raise PickleRefused("data is an array of other things than bytes (uint8)")
    if not (
        isinstance(shape, tuple)
        and len(shape) == 2
        and all(type(side) is int and 0 <= side < MAX_BYTES for side in shape)
    ):
        raise PickleRefused("data is no array of two dimensions")
    if not isinstance(body, bytes) or len(body) != shape[0] * shape[1]:
        raise PickleRefused(f"data has not the bytes for its shape {shape[0]} x {shape[1]}")
    return np.frombuffer(body, np.uint8).reshape(shape, order="F" if by_columns is True else "C")


def _is_byte(kind: object) -> bool:
    """Whether this was to become the plain dtype of bytes: no fields, no subarray, no other state."""
    if not isinstance(kind, Made) or kind.by.name != "dtype" or not kind.arguments:
        return False
    name = kind.arguments[0]
    if not (isinstance(name, str | bytes) and name in ("u1", b"u1", "|u1", b"|u1")):
        return False
    state = kind.state
    return state is None or (isinstance(state, tuple) and len(state) in (8, 9) and state[2:5] == (None, None, None))


def _list(value: object, most: int | None = None) -> list[Any]:
    if not isinstance(value, list):
        raise PickleRefused(f"{shown(value)} is there instead of a list")
    if most is not None and len(value) > most:
        raise PickleRefused(f"{len(value)} names, at most {most}")
    return value


def _text(value: object) -> str:
    """Of a name. What is shared a million times must be short."""
    if not isinstance(value, str | bytes) or len(value) > MAX_TEXT:
        raise PickleRefused(f"{shown(value)} is there instead of a name")
    return value if isinstance(value, str) else value.decode(errors="replace")
