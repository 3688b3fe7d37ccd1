"""The first picture of a JPEG file: bounded before a decoder sees it, and refused where it is not whole.

libjpeg decodes a picture that was cut and closed with an end marker without an error: it makes up what is missing and
prints a warning, which Pillow keeps to itself. But it is seen in what it reads. Here the end marker is kept back, and
FILLER stands in its place:

- A picture of one scan is decoded row by row while its data arrives. If its last row is there before the end marker
  is, nothing was missing, but for the few bytes that FILLER stands for.
- For one of several scans (a progressive one) libjpeg waits for the end before it makes a pixel. It is decoded a second
  time with other bytes before the end: a whole picture stays as it is, because nothing reads them.
"""

from __future__ import annotations

import io
import random
import re
from typing import TYPE_CHECKING

from PIL import Image, ImageChops
from PIL.JpegImagePlugin import JpegImageFile

from pictures.bad_image import BadImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_SEGMENTS = 2_000  # a camera's file has some hundreds
SCAN, END_OF_IMAGE = 0xDA, 0xD9
END = b"\xff\xd9"
ARITHMETIC = {*range(0xC9, 0xD0)} - {0xCC}
NOTES = {*range(0xE0, 0xF0), 0xFE}  # of applications, and comments; those that say something of the pixels begin so:
NOTES_BEGIN = (
    b"\xff\xe1..Exif\0",
    b"\xff\xe1..http://ns.adobe.com/xap/1.0/\0",
    b"\xff\xee..Adobe",
    b"\xff\xe0..JFIF\0",
)
TELLING_NOTES = tuple(re.compile(start, re.DOTALL) for start in NOTES_BEGIN)
# In a scan's data no other byte follows an FF. From 01 to BF nothing begins: a decoder that lost its place passes by.
MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
# Any number may stand where one does; a decoder that is fed in pieces reads them again and again.
FILL = re.compile(rb"\xff{2,}")
RESTART = re.compile(rb"\xff([\xd0-\xd7])")
# Eight bytes, which is how far libjpeg looks ahead. All ones are no code of its tables, so they make up for two blocks.
FILLER = b"\xff\x00" * 8
NOISE = random.Random(11)
# Neither continues in the same way what was cut. A restart in between, for a picture that was cut just before one.
FILLINGS = [begin + bytes(NOISE.randrange(255) for _ in range(2048)) for begin in (b"\0\0\0\0", b"\xaa\xaa\xaa")]


Segment = tuple[int, int, int]  # marker, where it begins, where it ends


class Incomplete(ValueError):
    """The picture's data ends before the picture does."""


class Jpeg(JpegImageFile):
    """The first picture of a JPEG file: a camera may have put others behind it, or a preview (MPO)."""

    scans = 1
    content: bytes

    def _read_dpi_from_exif(self) -> None:
        """Not needed, and loud where EXIF is cut short."""

    @property
    def is_streamed(self) -> bool:
        """Whether rows come while data arrives."""
        return self.scans == 1 and "progressive" not in self.info

    def load_prepare(self) -> None:
        super().load_prepare()
        width, height = self.im.size
        self.last_row = (0, height - 1, width, height)
        noise = random.Random(width).randbytes(width * len(self.getbands()))
        self.no_row = Image.frombytes(self.mode, (width, 1), noise)
        self.im.paste(self.no_row.im, self.last_row)
        self.endings = [END]

    def load_read(self, read_bytes: int) -> bytes:
        """What Pillow gives the decoder next: the file, then, if that was enough, the end."""
        assert self.fp is not None
        if data := self.fp.read(read_bytes):
            return data
        if self.is_streamed and self._new(self.im.crop(self.last_row)).tobytes() == self.no_row.tobytes():
            return b""
        return self.endings.pop() if self.endings else b""


def read(body: bytes) -> Jpeg:
    """A Jpeg whose header is read. Raises BadImage for what the header forbids, whatever Pillow raises for the rest."""
    found, end = segments(body)
    markers = [marker for marker, *_ in found]
    if ARITHMETIC.intersection(markers):
        raise BadImage("FORMAT", "an arithmetic-coded JPEG, which few programs read; convert it to an ordinary one")
    if SCAN not in markers:
        raise BadImage("TRUNCATED", "the image has a header, but no picture")
    if end is None:
        raise BadImage("TRUNCATED", "the file ends before the picture does: it has no end marker")
    if not is_refined(body, found):
        raise BadImage("TRUNCATED", "the last scans of this progressive picture are missing")
    try:
        image = opened(without_notes(body[:end], found, TELLING_NOTES))
    except Exception:  # perhaps for what JFIF says of the resolution
        image = opened(without_notes(body[:end], found, TELLING_NOTES[:-1]))
    image.scans = markers.count(SCAN)
    return image


def opened(content: bytes) -> Jpeg:
    image = Jpeg(io.BytesIO(content + FILLER))
    image.content = content
    return image


def load(image: Jpeg, side: int | None = None) -> Jpeg:
    """Decode a Jpeg of `read`, perhaps at a half, a quarter or an eighth of its size. Raises Incomplete."""
    if image.is_streamed:
        shrunk(image, side).load()
        return image
    whole, other = (shrunk(ended(image, filling), side) for filling in FILLINGS)
    whole.load()
    other.load()
    if ImageChops.difference(whole._new(whole.im), other._new(other.im)).getbbox(alpha_only=False):
        raise Incomplete("image file is truncated: its last scan lacks data")
    return whole


def ended(image: Jpeg, filling: bytes) -> Jpeg:
    restarts = RESTART.findall(image.content, image.content.rindex(b"\xff\xda"))
    restart = bytes([0xFF, 0xD0 + ((restarts[-1][0] - 0xD0 + 1) % 8 if restarts else 0)])
    again = Jpeg(io.BytesIO(b"".join((image.content, filling, restart, filling))))
    again.scans = image.scans
    return again


def shrunk(image: Jpeg, side: int | None) -> Jpeg:
    if side:
        image.draft(None, (side, side))
    return image


def segments(body: bytes) -> tuple[list[Segment], int | None]:
    """[(marker, begin, end)] of the first picture of a JPEG file, whose scans' data lies between; and where it ends."""
    # Nearly all bytes FF are data of scans, followed by 00: without those the next marker is found ten times as fast.
    found: list[Segment] = []
    sought, at = body.replace(b"\xff\x00", b"\x00\x00"), 2
    while match := MARKER.search(sought, at):
        marker, at = body[match.end() - 1], match.end()
        if marker == END_OF_IMAGE:
            return found, match.start()
        size = int.from_bytes(body[at : at + 2], "big")
        if size < 2:
            raise BadImage("UNDECODABLE", "the image is damaged: a segment is shorter than its own length")
        at += size
        found.append((marker, match.start(), at))
        if len(found) > MAX_SEGMENTS:
            raise BadImage("TOO_MANY_SEGMENTS", f"the image has more than {MAX_SEGMENTS:,} segments; save it anew")
    return found, None


def count_scans(body: bytes) -> int:
    """How many passes over its pixels the first picture of a JPEG file asks for."""
    return sum(marker == SCAN for marker, *_ in segments(body)[0])


def is_refined(body: bytes, found: Sequence[Segment]) -> bool:
    """Whether the scans of a progressive picture bring every bit of every coefficient (T.81, B.2.3)."""
    if not any(marker in (0xC2, 0xC6) for marker, *_ in found):
        return True
    lacking: dict[int, list[int]] = {}
    for marker, begin, end in found:
        header = body[begin + 4 : end]
        count = header[0] if header else 0
        if marker == SCAN and len(header) >= 4 + 2 * count:
            first, last, bits = header[1 + 2 * count], header[2 + 2 * count], header[3 + 2 * count] & 15
            for component in header[1 : 1 + 2 * count : 2]:
                lacking.setdefault(component, [1] * 64)[first : last + 1] = [bits] * (min(last, 63) + 1 - first)
    return all(bits == 0 for known in lacking.values() for bits in known)


def without_notes(body: bytes, found: Sequence[Segment], telling: Iterable[re.Pattern[bytes]]) -> bytes:
    """A JPEG of its segments and scans, and of its notes the first of each of the patterns `telling`.

    Pillow reads them one by one, and what stands between them byte by byte.
    """
    kept, untold = [body[:2]], list(telling)
    for (marker, start, end), (_, after, _) in zip(found, [*found[1:], (END_OF_IMAGE, len(body), None)], strict=True):
        told = next((note for note in untold if note.match(body, start)), None) if marker in NOTES else None
        if marker not in NOTES or told:
            kept.append(body[start:end])
        if told:
            untold.remove(told)
        if marker == SCAN:
            kept.append(FILL.sub(b"\xff", body[end:after]).rstrip(b"\xff"))
    return b"".join(kept)
