"""Small pictures of images that sync has let through, for people: upright, on white, with 16 bits scaled."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable
from typing import Any

from retraining.dataset.pictures.orientation import upright
from retraining.dataset.pictures.thumb import on_white

log = logging.getLogger(__name__)

SIDE = 128
"""Of a small picture, in pixels."""
MAX_READ_BYTES = 64 * 2**20
"""Of all images together: what it may cost to show them."""


class Thumbnails:
    """Small pictures as `data:` addresses; None for an image that cannot be had, and when enough was read."""

    def __init__(self, read: Callable[[str, int], bytes | None]) -> None:
        """`read(name, most)`: an image's bytes, None where it has more than `most`."""
        self._read, self._left = read, MAX_READ_BYTES

    def __call__(self, name: str) -> str | None:
        try:
            body = self._read(name, self._left)
            if body is None:
                return None
            self._left -= len(body)
            picture = small(body)
        except Exception as error:  # whatever a decoder or the store says: the name alone is shown then
            log.warning("%s has no small picture: %s: %s", name, type(error).__name__, error)
            return None
        return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"


def small(body: bytes) -> bytes:
    """A JPEG of 128 pixels at most, upright, of an image that sync has let through."""
    made = io.BytesIO()
    on_white(small_picture(body, SIDE)).save(made, "JPEG", quality=85)
    return made.getvalue()


def small_picture(body: bytes, side: int) -> Any:
    """A Pillow image in RGBA, upright, of `side` pixels at most, of an image that sync has let through."""
    from PIL import Image

    with Image.open(io.BytesIO(body), formats=("JPEG", "PNG")) as image:
        image.draft("RGB", (2 * side, 2 * side))  # a camera's JPEG is decoded at an eighth of its size
        image.load()  # of a PNG also what stands behind its pixels
        picture = eight_bits(upright(image))
        if picture.mode not in ("L", "RGB") or "transparency" in image.info:
            picture = picture.convert("RGBA")  # before it is made smaller: a palette's numbers have no middle
        picture.thumbnail((side, side))
        return picture.convert("RGBA")


def eight_bits(image: Any) -> Any:
    """Scaled as the network sees it; Pillow's own conversion of 16 bits is white nearly everywhere."""
    import numpy as np
    from PIL import Image

    return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)) if image.mode.startswith("I") else image
