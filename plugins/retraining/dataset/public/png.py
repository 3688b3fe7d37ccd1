"""A picture of an array as the bytes of a PNG file, which holds every value as it was."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

NAMELESS = "_.png"
"""What a picture of an array is called, which has a number only."""
MAX_PICTURE_BYTES = 64 * 1024**2
"""Of one picture of an array: those of public sets have kilobytes, and it is in memory several times."""


def png_of(pixels: numpy.ndarray[Any, Any]) -> bytes:
    """Of bytes (h, w) or (h, w, 3), or of 16-bit grey (h, w)."""
    from PIL import Image

    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG")
    return body.getvalue()
