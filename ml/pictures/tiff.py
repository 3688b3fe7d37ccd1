"""A TIFF file, of which the first picture counts; its directory is read before Pillow and libtiff believe it.

Tags name places anywhere in the file, and as often as they like: a directory of kilobytes can name terabytes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from pictures import jpeg
from pictures.bad_image import BadImage

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC = 256, 257, 259, 262
STRIPS, STRIP_COUNTS, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_COUNTS = 273, 279, 322, 323, 324, 325
WHITE_IS_ZERO = 0
# Not fax (2 to 4): libtiff goes on where it is damaged, and writes a line about each row to the log.
COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32946: "deflate", 32773: "PackBits"}
MAX_TAGS = 1_000
MAX_PARTS = 50_000  # strips or tiles; programs write strips of 8 kB or more
MAX_TILE_SIDE = 8_192
JPEG, MAX_SCANS = 7, 4  # of one part: one for each channel at most; nobody writes progressive ones, of dozens
KIND_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)  # by the number of the kind
UNSIGNED = (1, 3, 4, 13)


def read(body: bytes) -> TiffImageFile:
    """Its header. Raises BadImage, and whatever Pillow does for a broken one."""
    require_bounded(Directory(body))
    return TiffImageFile(io.BytesIO(body))


def plain(image: TiffImageFile) -> Image.Image:
    """The decoded picture with its brightest number as white. Raises BadImage where nobody knows which one that is."""
    if image.mode.startswith("F"):
        raise BadImage("FORMAT", "pixels that are fractions, whose range nobody knows; convert it to 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    numbers = np.asarray(image)
    low, high = int(numbers.min()), int(numbers.max())
    if not 0 <= low <= high <= 65535:
        raise BadImage("FORMAT", f"pixels from {low} to {high}, of which 16 bits hold 0 to 65535; convert it")
    if image.mode.startswith("I;16") and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow turns only 8 bits
        numbers = 65535 - numbers
    return Image.fromarray(numbers.astype(np.uint16))  # also of I;16B, of which Pillow can do next to nothing


class Directory:
    """The first one of a file, by tag, as far as decoding depends on it. Source: TIFF 6.0, section 2."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.order: Literal["little", "big"] = "little" if body.startswith(b"II") else "big"
        at = self.number(4, 4)
        count = self.number(at, 2)
        if count > MAX_TAGS:
            raise BadImage("TOO_MANY_SEGMENTS", f"the image has {count:,} tags; at most {MAX_TAGS:,} are accepted")
        self.entries = {self.number(entry, 2): entry for entry in range(at + 2, at + 2 + 12 * count, 12)}
        if len(self.entries) < count:  # Pillow believes the last, libtiff the first
            raise BadImage("UNDECODABLE", "the image has a tag twice; save it anew")
        named = sum(self.size(entry) for entry in self.entries.values())
        if named > len(body):
            raise BadImage("UNDECODABLE", f"the image's tags name {named:,} bytes of {len(body):,}")

    def number(self, at: int, size: int) -> int:
        if at + size > len(self.body):
            raise BadImage("TRUNCATED", "the image's directory is cut")
        return int.from_bytes(self.body[at : at + size], self.order)

    def size(self, entry: int) -> int:
        """In bytes, of a tag's values."""
        kind, count = self.number(entry + 2, 2), self.number(entry + 4, 4)
        return count * (KIND_BYTES[kind] if kind < len(KIND_BYTES) else 8)

    def values(self, tag: int, most: int = 1) -> Sequence[int]:
        """Whole numbers of a tag; none where it is absent. Raises BadImage for others, and for more than `most`."""
        entry = self.entries.get(tag)
        if entry is None:
            return ()
        if (kind := self.number(entry + 2, 2)) not in UNSIGNED:  # libtiff takes them nevertheless
            raise BadImage("UNDECODABLE", f"the image's tag {tag} is of kind {kind}; save it anew")
        count, each = self.number(entry + 4, 4), KIND_BYTES[kind]
        if count > most:
            raise BadImage("TOO_MANY_CHUNKS", f"the image has {count:,} strips; at most {most:,} are accepted")
        start = entry + 8 if count * each <= 4 else self.number(entry + 8, 4)
        return [self.number(start + index * each, each) for index in range(count)]


def require_bounded(directory: Directory) -> None:
    """BadImage for what libtiff would work at without end, or take memory for that no picture needs."""
    (compression,) = directory.values(COMPRESSION) or (1,)
    if compression not in COMPRESSIONS:
        names = ", ".join(dict.fromkeys(COMPRESSIONS.values()))
        raise BadImage("FORMAT", f"a TIFF of compression {compression}; read are {names}: save it anew")
    sides = [side for tag in (TILE_WIDTH, TILE_HEIGHT) for side in directory.values(tag)]
    if any(side > MAX_TILE_SIDE for side in sides):
        raise BadImage("UNDECODABLE", f"the image has tiles of {' x '.join(map(str, sides))}; save it anew")
    parts = [*directory.values(STRIP_COUNTS, MAX_PARTS), *directory.values(TILE_COUNTS, MAX_PARTS)]
    if sum(parts) > len(directory.body):
        raise BadImage("UNDECODABLE", f"the image's parts have {sum(parts):,} bytes of {len(directory.body):,}")
    if compression == JPEG:
        starts = [*directory.values(STRIPS, MAX_PARTS), *directory.values(TILES, MAX_PARTS)]
        require_few_scans(directory.body, starts, parts)


def require_few_scans(body: bytes, starts: Sequence[int], sizes: Sequence[int]) -> None:
    """BadImage where a strip or tile is a JPEG of many passes over its pixels, or may be one."""
    if len(starts) != len(sizes) or not all(sizes):  # libtiff would look for their ends itself
        raise BadImage("UNDECODABLE", "the image does not say how long its parts are; save it anew")
    scans = max(jpeg.count_scans(body[start : start + size]) for start, size in zip(starts, sizes, strict=True))
    if scans > MAX_SCANS:
        raise BadImage("TOO_MANY_SCANS", f"the image has a part of {scans} scans, at most {MAX_SCANS}; save it anew")
