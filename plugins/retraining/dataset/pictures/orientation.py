"""Which way up a picture is, by what its file says besides its pixels. As training and an endpoint read it.

Read here, since Pillow goes through everything that EXIF names, and a few kilobytes can name gigabytes. What is broken
turns nothing. ml/pictures/picture.py has the same; a contract test compares.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, Literal

ORIENTATION = 0x0112
IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
EXIF_HEAD = re.compile(rb"^(?:Exif\0\0){1,2}")
BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II": "little", b"MM": "big"}
SIZES = {1: 1, 3: 2, 4: 4}
"""Of whole numbers in EXIF, by kind."""


def upright(image: Any) -> Any:
    """A Pillow image as a person holds it: the same one where nothing says that it is turned."""
    return turned(image, orientation_of(image.info))


def turned(image: Any, orientation: int) -> Any:
    """By EXIF's number, of 1 to 8; every other turns nothing."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def orientation_of(info: dict[Any, Any]) -> int:
    """What EXIF says, else XMP, of what Pillow found around a picture; 1 where neither does."""
    exif, xmp = info.get("exif"), info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
    with contextlib.suppress(ValueError):
        if exif is None:
            exif = bytes.fromhex("".join(info.get("Raw profile type exif", "").split("\n")[3:]))
        if (found := _in_exif(exif)) is not None:
            return found
    named = IN_XMP.search(xmp if isinstance(xmp, bytes) else xmp.encode())
    return int(named[1]) if named else 1


def _in_exif(exif: bytes) -> int | None:
    """Of its first directory, as far as that goes."""
    tiff, found = EXIF_HEAD.sub(b"", exif), None
    order = BYTE_ORDERS.get(tiff[:2])
    if order:
        at = int.from_bytes(tiff[4:8], order)
        count = int.from_bytes(tiff[at : at + 2], order)
        for entry in range(at + 2, min(at + 2 + 12 * count, len(tiff) - 11), 12):
            tag, kind = (int.from_bytes(tiff[place : place + 2], order) for place in (entry, entry + 2))
            if tag == ORIENTATION and kind in SIZES and int.from_bytes(tiff[entry + 4 : entry + 8], order) == 1:
                found = int.from_bytes(tiff[entry + 8 : entry + 8 + SIZES[kind]], order)
    return found
