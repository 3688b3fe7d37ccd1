"""CIFAR-100 as its makers publish it: Python 2 pickles of arrays → PNG files.

Nothing of the pickle is run or built: `plain_pickle` tells what numpy was to make, and an array is made here, of its
bytes, where that is plainly an array of bytes.
Format: https://www.cs.toronto.edu/~kriz/cifar.html (data: uint8 (n, 3072), the red, green and blue planes of 32x32).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from retraining import plain_pickle
from retraining.dataset.source_error import SourceError
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


def write_cifar100(folder: Path, target: Path) -> int:
    """Write `target`/{train,test}/<fine label>/<name>.png; returns how many. Raises SourceError for other content."""
    (names,) = _members(folder / "meta", "fine_label_names")
    try:
        labels = [_text(label) for label in _list(names, MAX_LABELS)]
    except PickleRefused as error:
        raise SourceError(f"meta is not a file of CIFAR-100: fine_label_names: {error}.") from None
    return sum(_write_split(folder / split, target / split, labels) for split in ("train", "test"))


def _write_split(path: Path, target: Path, labels: list[str]) -> int:
    from PIL import Image

    data, fine, names = _members(path, "data", "fine_labels", "filenames")
    try:
        fine, names, pixels = _list(fine), _list(names), _array(data)
    except PickleRefused as error:
        raise SourceError(f"{path.name} is not a file of CIFAR-100: {error}.") from None
    if pixels.shape != (len(fine), 3 * SIDE * SIDE) or len(names) != len(fine):
        raise SourceError(
            f"{path.name}: data is {pixels.shape} for {len(fine)} labels; CIFAR-100 has 3072 bytes an image."
        )
    for number, (image, label, name) in enumerate(zip(pixels, fine, names, strict=True)):
        if not (isinstance(label, int) and 0 <= label < len(labels)):
            classes = f"there are {len(labels)} classes"
            raise SourceError(f"{path.name}: image {number} has the label {shown(label)}; {classes}.")
        folder = target / _plain(labels[label])
        folder.mkdir(parents=True, exist_ok=True)
        # The number keeps two files of one name apart, and a stranger's text from becoming a path.
        try:
            stem = _plain(Path(_text(name)).stem)
        except PickleRefused as error:
            raise SourceError(f"{path.name}: image {number} has no name: {error}.") from None
        picture = Image.fromarray(image.reshape(3, SIDE, SIDE).transpose(1, 2, 0))
        picture.save(folder / f"{number:05d}_{stem}.png")
    return len(fine)


def _members(path: Path, *names: str) -> list[Any]:
    """Of the file's dictionary. Python 2 wrote the keys as bytes; whoever wrote the file again may have text."""
    try:
        if not path.is_file():
            raise SourceError(f"{path.name} is no file; is it another data set?")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise SourceError(f"{path.name} has {size} bytes, a file of CIFAR-100 at most {MAX_BYTES}.")
        with path.open("rb") as file:
            content = plain_pickle.load(file, KNOWN, "array")
    except (PickleRefused, OSError) as error:
        raise SourceError(f"{path.name} is not a file of CIFAR-100: {error}") from None
    found = content if isinstance(content, dict) else {}
    if missing := [name for name in names if name not in found and name.encode() not in found]:
        raise SourceError(f"{path.name} has no {missing[0]}; is it CIFAR-10, or another data set?")
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


def _plain(text: str) -> str:
    """A file's name of it: letters, digits, `_` and `-`."""
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in text)[:60] or "_"
