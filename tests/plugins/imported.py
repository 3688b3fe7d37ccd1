"""What importers of arrays are given, and what they wrote."""

from __future__ import annotations

from pathlib import Path

import numpy
from PIL import Image


def noise(*shape: int, seed: int = 0) -> numpy.ndarray:
    """Bytes that no two pictures share."""
    return numpy.random.default_rng(seed).integers(0, 256, shape, dtype=numpy.uint8)


def names_of(target: Path, count: int) -> list[str]:
    """Of all files of a folder, which are as many as the importer has said."""
    names = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    assert count == len(names)
    return names


def written(target: Path, number: int = 0) -> numpy.ndarray:
    """The pixels of the picture of this number."""
    (path,) = target.rglob(f"{number:07d}.png")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return numpy.asarray(picture)
