"""Formats beside JPEG and PNG: their picture as a PNG, so that training and serving need two decoders and see the same.

Losslessly, and once: what is kept of the file is its digest. The first picture of a file counts; EXIF's orientation is
carried out, for a PNG should need none.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from retraining.dataset.pictures.limits import MAX_BYTES
from retraining.dataset.pictures.thumb import thumb_of
from retraining.dataset.pictures.verdict import Damaged

RULES = "png-1"
"""Of this file, in the identity of what it makes: other rules make other pictures of the same file."""
AS_THEY_ARE = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
"""Pillow's modes that a PNG can hold."""
WITH_ALPHA = ("PA", "La", "RGBa")
WHITE_IS_ZERO, PHOTOMETRIC = 0, 262
"""Of TIFF: how X-rays are often kept. Pillow turns 8 bits round, but not 16."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A picture in a format that training reads."""

    body: bytes
    frames: int
    thumb: str


def format_of(body: bytes) -> str | None:
    """GIF, BMP, TIFF or WebP, by its first bytes; None for every other."""
    if body.startswith(b"RIFF") and body[8:12] == b"WEBP":
        return "WebP"
    known = {b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    return next((name for magic, name in known.items() if body.startswith(magic)), None)


def convert(body: bytes, require_size: Callable[[int, int], object]) -> Converted:
    """A file of `format_of` as PNG. Raises Damaged for what PNG cannot hold, and whatever Pillow does for broken files.

    `require_size` is asked with width and height before a pixel is decoded.
    """
    with opened(body) as image:
        require_size(*image.size)
        frames = 2 if getattr(image, "is_animated", False) else 1
        image.seek(0)
        image.load()
        picture = _upright(_plain(image))
        picture.info = {key: value for key, value in picture.info.items() if key == "transparency"}
        thumb, out = thumb_of(picture), io.BytesIO()
        picture.save(out, "PNG")
    if out.tell() > MAX_BYTES:
        raise Damaged("TOO_BIG_BYTES", f"{out.tell()} bytes as PNG, at most {MAX_BYTES}; convert it to JPEG yourself")
    return Converted(body=out.getvalue(), frames=frames, thumb=thumb)


def opened(body: bytes) -> Any:
    """By the class of the format itself: Image.open would try forty."""
    kind, file = format_of(body), io.BytesIO(body)
    if kind == "WebP":
        from PIL.WebPImagePlugin import WebPImageFile

        return WebPImageFile(file)
    if kind == "GIF":
        from PIL.GifImagePlugin import GifImageFile

        return GifImageFile(file)
    if kind == "BMP":
        from PIL.BmpImagePlugin import BmpImageFile

        return BmpImageFile(file)
    from PIL.TiffImagePlugin import TiffImageFile

    return TiffImageFile(file)


def _plain(image: Any) -> Any:
    """The picture in a mode that a PNG can hold."""
    turned_round = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO
    if image.mode == "I;16B":  # of which Pillow can do next to nothing
        image = _native(image)
    if image.mode.startswith("I"):
        low, high = image.getextrema()
        if low < 0 or high > 65535:
            raise Damaged("FORMAT", f"pixels from {low} to {high}, of which 16 bits hold 0 to 65535; convert it")
        if image.mode != "I;16":
            image = image.convert("I").convert("I;16")
        return _negative(image) if turned_round else image
    if image.mode.startswith("F"):
        raise Damaged("FORMAT", "pixels that are fractions, whose range nobody knows; convert it to 8 or 16 bits")
    if image.mode in AS_THEY_ARE:
        return image
    return image.convert("RGBA" if image.mode in WITH_ALPHA else "RGB")


def _native(image: Any) -> Any:
    """16 bits in this machine's order of bytes."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.asarray(image).astype(np.uint16))


def _negative(image: Any) -> Any:
    import numpy as np
    from PIL import Image

    return Image.fromarray(65535 - np.asarray(image))


def _upright(image: Any) -> Any:
    from PIL import ImageOps

    with contextlib.suppress(Exception):  # EXIF that is broken, or absent, turns nothing
        return ImageOps.exif_transpose(image)
    return image
