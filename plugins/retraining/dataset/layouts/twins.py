"""Masks called as their images are, but for the ending: blow/1.jpg and blow/1.png. By the names alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from retraining.dataset.layouts.folders import Path

PHOTOS = ("jpg", "jpeg", "jpe", "jfif")
DRAWINGS = ("png", "bmp", "gif", "tif", "tiff")
"""What keeps the two colours of a mask; JPEG does not."""
ALL, MOST = 0.95, 0.5
"""Of a folder's images of either kind, that have the other beside them; and of all images, that lie in such folders."""
LEAST = 3
"""Images of each kind in a folder: two may be a chance."""


def twins(paths: Iterable[Path]) -> set[Path]:
    """The drawings of all folders that hold one for each photo, where most images lie in such folders.

    A set that has a few pictures in both formats, or numbers those of each from 1, has no such folders.
    """
    folders: dict[Path, tuple[dict[str, Path], dict[str, Path]]] = {}
    images = 0
    for path in paths:
        stem, _, ending = path[-1].rpartition(".")
        is_drawing = ending.lower() in DRAWINGS
        if is_drawing or ending.lower() in PHOTOS:
            images += 1
            folders.setdefault(path[:-1], ({}, {}))[is_drawing][stem] = path
    found = set[Path]()
    for photos, drawings in folders.values():
        both = photos.keys() & drawings.keys()
        if len(both) >= LEAST and len(both) >= ALL * max(len(photos), len(drawings)):
            found |= {drawings[stem] for stem in both}
    return found if 2 * len(found) >= MOST * images else set()
