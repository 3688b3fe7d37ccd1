"""A WebP file: its size is read before libwebp, which takes memory for two whole pictures as soon as it opens one."""

from __future__ import annotations

import io

from PIL.WebPImagePlugin import WebPImageFile

from pictures.bad_image import BadImage
from pictures.limits import MAX_OTHER_PIXELS

VP8_START, VP8L_START = b"\x9d\x01\x2a", b"\x2f"


def read(body: bytes) -> WebPImageFile:
    """Its header; an animation stands at its first picture. Raises BadImage, and what Pillow does for a broken one."""
    width, height = size(body)
    if width * height > MAX_OTHER_PIXELS:
        size_text = f"{width} x {height}"
        raise BadImage(
            "TOO_MANY_PIXELS", f"the image has {size_text} pixels; at most {MAX_OTHER_PIXELS:,} are accepted"
        )
    return WebPImageFile(io.BytesIO(body))


def size(body: bytes) -> tuple[int, int]:
    """Width and height in pixels, of the canvas where there is one. Raises ValueError.

    Source: RFC 9649, 2.5 to 2.7 (VP8, VP8L and VP8X chunks).
    """
    kind, content = body[12:16], body[20:30]
    if kind == b"VP8X" and len(content) == 10:
        return 1 + int.from_bytes(content[4:7], "little"), 1 + int.from_bytes(content[7:10], "little")
    if kind == b"VP8L" and content.startswith(VP8L_START):
        bits = int.from_bytes(content[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and content[3:6] == VP8_START:
        return int.from_bytes(content[6:8], "little") & 0x3FFF, int.from_bytes(content[8:10], "little") & 0x3FFF
    raise ValueError(f"a WebP whose first chunk is {kind!r}")
