"""A PNG file without what its pixels do not depend on."""

from __future__ import annotations

import io
import zlib

from PIL.PngImagePlugin import PngImageFile

from pictures.bad_image import BadImage

MAX_CHUNKS = 50_000  # of a PNG; editors write its pixels in chunks of 8 kB or more, which are 3,300 at most
# Chunks of a PNG that pixels depend on, besides the critical ones, and the texts in which editors put the orientation.
TELLING = (b"tRNS", b"eXIf")
TELLING_TEXTS = {b"tEXt": b"Raw profile type exif\0", b"zTXt": b"Raw profile type exif\0\0"}
TELLING_TEXTS[b"iTXt"] = b"XML:com.adobe.xmp\0\0"
MAX_TEXT = 2**18


def read(body: bytes) -> PngImageFile:
    """Its header. Raises BadImage, and whatever Pillow's parser does for a broken one."""
    return PngImageFile(io.BytesIO(essence(body)))


def essence(png: bytes) -> bytes:
    """A PNG without what its pixels do not depend on: texts, profiles, the frames of an animation.

    They are none of a network's business, and Pillow refuses pictures for some: long texts, wrong checksums of them.
    """
    parts, told, at = [png[:8]], set(), 8
    for _ in range(MAX_CHUNKS + 1):
        if at + 12 > len(png):
            break
        kind, end = png[at + 4 : at + 8], at + 12 + int.from_bytes(png[at : at + 4], "big")
        if not kind[0] & 0x20:  # a small first letter: ancillary
            parts.append(png[at:end])
        elif kind not in told and is_telling(kind, png[at + 4 : end]):
            parts.append(png[at:end])
            told.add(kind)
        at = end
    else:
        raise BadImage("TOO_MANY_CHUNKS", f"the image has more than {MAX_CHUNKS:,} chunks; save it anew")
    return b"".join((*parts, png[at:]))


def is_telling(kind: bytes, chunk: bytes) -> bool:
    """Whether an ancillary chunk (its kind, contents and checksum) decides about pixels, and is whole."""
    content = chunk[4:-4]
    if kind not in TELLING and not (kind in TELLING_TEXTS and content.startswith(TELLING_TEXTS[kind])):
        return False
    if len(content) > MAX_TEXT or zlib.crc32(chunk[:-4]) != int.from_bytes(chunk[-4:], "big"):
        return False
    if kind == b"zTXt":
        unpacked = zlib.decompressobj()
        try:
            unpacked.decompress(content[len(TELLING_TEXTS[kind]) :], MAX_TEXT)
        except zlib.error:
            return False
        return not unpacked.unconsumed_tail
    return True
