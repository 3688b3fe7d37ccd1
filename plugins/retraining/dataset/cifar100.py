"""CIFAR-100 as its makers publish it: Python 2 pickles of arrays → PNG files.

A pickle may run any code when it is read. This reader builds arrays, lists, texts and numbers and refuses all else, so
that an archive from a stranger cannot.
Format: https://www.cs.toronto.edu/~kriz/cifar.html (data: uint8 (n, 3072), the red, green and blue planes of 32x32).
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from retraining.dataset.sources import SourceError

SIDE = 32


def write_cifar100(folder: Path, target: Path) -> int:
    """Write `target`/{train,test}/<fine label>/<name>.png; returns how many. Raises SourceError for other content."""
    names = _members(folder / "meta", b"fine_label_names")[0]
    labels = [_text(label) for label in names]
    return sum(_write_split(folder / split, target / split, labels) for split in ("train", "test"))


def _write_split(path: Path, target: Path, labels: list[str]) -> int:
    from PIL import Image

    data, fine, names = _members(path, b"data", b"fine_labels", b"filenames")
    shape = getattr(data, "shape", None)
    if shape != (len(fine), 3 * SIDE * SIDE) or len(names) != len(fine) or str(getattr(data, "dtype", "")) != "uint8":
        raise SourceError(f"{path.name}: data is {shape} for {len(fine)} labels; CIFAR-100 has 3072 bytes an image.")
    for number, (pixels, label, name) in enumerate(zip(data, fine, names, strict=True)):
        if not (isinstance(label, int) and 0 <= label < len(labels)):
            raise SourceError(f"{path.name}: image {number} has the label {label!r}; there are {len(labels)} classes.")
        folder = target / _plain(labels[label])
        folder.mkdir(parents=True, exist_ok=True)
        # The number keeps two files of one name apart, and a stranger's text from becoming a path.
        image = Image.fromarray(pixels.reshape(3, SIDE, SIDE).transpose(1, 2, 0))
        image.save(folder / f"{number:05d}_{_plain(Path(_text(name)).stem)}.png")
    return len(fine)


def _members(path: Path, *names: bytes) -> list[Any]:
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
    except Exception as error:  # a broken pickle raises nearly everything
        raise SourceError(f"{path.name} is not a file of CIFAR-100: {type(error).__name__}: {error}") from None
    if missing := [name for name in names if not isinstance(content, dict) or name not in content]:
        raise SourceError(f"{path.name} has no {missing[0].decode()}; is it CIFAR-10, or another data set?")
    return [content[name] for name in names]


class _ArraysOnly(pickle.Unpickler):
    """Builds numpy arrays and plain values, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        import numpy

        if (module, name) == ("numpy", "dtype"):
            return numpy.dtype
        if (module, name) == ("numpy", "ndarray"):
            return numpy.ndarray
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return numpy._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return _latin1
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}, which is no array")


def _latin1(text: str, encoding: str) -> bytes:
    return text.encode(encoding if encoding == "latin1" else "ascii")


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _plain(text: str) -> str:
    """A file's name of it: letters, digits, `_` and `-`."""
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in text)[:100] or "_"
