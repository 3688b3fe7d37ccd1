"""What the recipe's slices go by: how the source names a test image, how large it is, and how bright."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from retraining.dataset.pictures.small import eight_bits
from retraining.dataset.pictures.thumb import on_white
from retraining.recipe.slices import Traits

log = logging.getLogger(__name__)

MAX_IMAGES, MAX_BYTES = 20_000, 2 * 2**30
"""Of a test set that are looked at: those whose digests come first, which is a draw."""
THREADS, TOGETHER = 10, 200

Measured = dict[str, tuple[int, float]]
"""Name of a test image → its shorter side in pixels, and its brightness."""


def traits(
    entries: Iterable[str], names: Mapping[str, str], measured: Measured, groups: Mapping[str, str] | None = None
) -> dict[str, Traits]:
    """Of each image by its name in the manifest; `names` are those that the source has for them, with their folders.

    Where no other name is known, as with a version of before, it is the manifest's. `groups`: of those that are in one.
    """
    found = {}
    for entry in entries:
        folder, _, file = names.get(entry, entry).rpartition("/")
        side, brightness = measured.get(entry, (None, None))
        label = entry.rpartition("/")[0]
        group = (groups or {}).get(entry, "")
        found[entry] = Traits(file=f"{label}/{file}", folder=folder, group=group, side=side, brightness=brightness)
    return found


def measure_all(read: Callable[[str], bytes], entries: Iterable[str]) -> Measured:
    """20,000 images and 2 GiB at most, drawn by their digests; how many are left out is said."""
    drawn = sorted(entries, key=lambda entry: entry.rpartition("/")[2])
    measured: Measured = {}
    left = MAX_BYTES

    def look(entry: str) -> tuple[str, int, tuple[int, float]]:
        body = read(entry)
        return entry, len(body), measure(body)

    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, min(MAX_IMAGES, len(drawn)), TOGETHER):
            if left <= 0:
                break
            for entry, size, found in pool.map(look, drawn[first : min(first + TOGETHER, MAX_IMAGES)]):
                measured[entry], left = found, left - size
    if len(measured) < len(drawn):
        log.warning("Slices by pixels are judged by %d of %d test images, drawn.", len(measured), len(drawn))
    return measured


def measure(body: bytes) -> tuple[int, float]:
    """The shorter side in pixels, and the mean brightness from 0 to 1, of an image that sync has let through."""
    from PIL import Image, ImageStat

    with Image.open(io.BytesIO(body), formats=("JPEG", "PNG")) as image:
        side = min(image.size)
        image.draft("L", (64, 64))  # a camera's JPEG is decoded at an eighth of its size
        image.load()  # a PNG may tell behind its pixels what is transparent
        seen: Any = on_white(image) if image.has_transparency_data else eight_bits(image)
        grey = seen.convert("L")
    return side, round(ImageStat.Stat(grey).mean[0] / 255, 4)
