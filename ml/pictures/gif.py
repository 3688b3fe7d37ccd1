"""The first picture of a GIF file, without what lies around it.

Pillow puts the comments of a file together byte string by byte string, which for 25 MB of them takes minutes.
"""

from __future__ import annotations

import io

from PIL.GifImagePlugin import GifImageFile

EXTENSION, PICTURE, CONTROL, TRAILER = 0x21, 0x2C, 0xF9, b"\x3b"


def read(body: bytes) -> GifImageFile:
    """Its header. Raises ValueError or IndexError, and whatever Pillow does, for a broken one."""
    return GifImageFile(io.BytesIO(essence(body)))


def essence(body: bytes) -> bytes:
    """Screen, colours, the last control block before the first picture, and that picture. Source: GIF89a, 20 to 24."""
    at = 13 + colours(body[10])
    head, control = body[:at], b""
    while body[at] == EXTENSION:
        end = blocks_end(body, at + 2)
        if body[at + 1] == CONTROL:
            control = body[at:end]
        at = end
    if body[at] != PICTURE:
        raise ValueError("a GIF without a picture")
    data = at + 10 + colours(body[at + 9])
    return head + control + body[at : blocks_end(body, data + 1)] + TRAILER


def colours(flags: int) -> int:
    """How many bytes of a table of colours follow."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def blocks_end(body: bytes, at: int) -> int:
    """Where the blocks that begin there end; of a file that was cut, its end, so that the decoder says so."""
    while at < len(body):
        if not body[at]:
            return at + 1
        at += 1 + body[at]
    return len(body)
