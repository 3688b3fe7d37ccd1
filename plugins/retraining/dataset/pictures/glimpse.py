"""What can be seen of a file that is kept out: a small picture of it, or of as much of it as its decoder makes.

Only for a process that may be ended (`verify_worker`): these are the files that are known to be bad.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

from retraining.dataset.pictures.convert import format_of, opened
from retraining.dataset.pictures.limits import MAX_PIXELS
from retraining.dataset.pictures.orientation import upright
from retraining.dataset.pictures.png import SIGNATURE
from retraining.dataset.pictures.thumb import on_white

RULES = "glimpse-1"
"""Of this file; other rules make other pictures."""
SIDE = 96
"""Of the picture, in pixels."""
MAX_BYTES = 6_000
"""Of the picture. Noise needs the last of QUALITIES."""
QUALITIES = (80, 55, 30, 10)
AVERAGED = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes that can be made smaller as they are."""


def glimpse(body: bytes) -> bytes | None:
    """A JPEG of 96 pixels and 6 kB at most, upright, of the first picture; None where there is nothing to see."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they would tell a log about every odd note
        for cut in (False, True):
            try:
                return _packed(_small(body, cut=cut))
            except Exception:  # Pillow's decoders raise nearly everything for broken files
                continue
    return None


class _NothingToSee(ValueError):
    """No picture, or one plain colour that a decoder made up."""


def _small(body: bytes, *, cut: bool) -> Any:
    from PIL import ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = cut
    try:
        with _opened(body) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _NothingToSee("too large")
            image.draft("RGB", (2 * SIDE, 2 * SIDE))  # a camera's JPEG is decoded at an eighth of its size
            image.load()
            small = _eight_bits(image)
            small.thumbnail((SIDE, SIDE))
            small = upright(small)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    if cut and all(low == high for low, high in small.convert("RGB").getextrema()):
        raise _NothingToSee("one colour")
    return small


def _opened(body: bytes) -> Any:
    """By the class of the format itself: Image.open would try forty."""
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    if body.startswith(b"\xff\xd8\xff"):
        return JpegImageFile(io.BytesIO(body))
    if body.startswith(SIGNATURE):
        return PngImageFile(io.BytesIO(body))
    if format_of(body) is None:
        raise _NothingToSee("no picture")
    return opened(body)


def _eight_bits(image: Any) -> Any:
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion is white nearly everywhere
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    plain = image.copy() if image.mode in AVERAGED and "transparency" not in image.info else image.convert("RGBA")
    plain.info = image.info
    return plain


def _packed(small: Any) -> bytes:
    if small.mode in ("LA", "RGBA"):
        small = on_white(small)
    for quality in QUALITIES:
        made = io.BytesIO()
        small.convert("RGB").save(made, "JPEG", quality=quality)
        if made.tell() <= MAX_BYTES:
            return made.getvalue()
    raise _NothingToSee("too many bytes")
