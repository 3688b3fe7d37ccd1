"""The first picture of a JPEG file: where it ends, what of the file makes its pixels, and whether all are there.

What cameras and editors put around it counts for nothing: EXIF, profiles, notes, a second picture, a film behind it.

libjpeg decodes a picture that was cut and closed with an end marker without an error: it makes up what is missing and
prints a warning, which Pillow keeps to itself. The evidence is in what it reads: with other bytes between the data and
the end marker, a whole picture stays as it is, because nothing reads them; one that lacks data takes them for it and
becomes another picture. So `endings` are two files of the same picture whose pixels are equal when it is whole.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from retraining.dataset.pictures.limits import MAX_SEGMENTS
from retraining.dataset.pictures.verdict import Damaged

SOI, EOI, SOS, COMMENT, APP1, ADOBE = 0xD8, 0xD9, 0xDA, 0xFE, 0xE1, 0xEE
NOTES = {"exif": b"Exif\0\0", "xmp": b"http://ns.adobe.com/xap/1.0/\0"}
"""What tells which way up it is, by how it begins."""
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # without DHT, JPG and DAC
PROGRESSIVE, ARITHMETIC = {0xC2, 0xC6, 0xCA, 0xCE}, {*range(0xC9, 0xD0)} - {0xCC}
STAND_ALONE = {0x01, *range(0xD0, 0xD8)}
"""Without a length."""
RESERVED = {*range(0x02, 0xC0)}
"""Nothing begins here: libjpeg gives up, or, where it looks for a restart, passes by."""
END = b"\xff\xd9"
NO_END = "the file ends before the picture does: it has no end marker"

# Of the FFs before a marker the last: to look for all of them takes a time that grows with their square.
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
# Not a byte after FF that is data, nor a restart.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
# Any number may stand where one does; a decoder that is fed in pieces reads them again and again.
_FILL = re.compile(rb"\xff{2,}")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")

# Both begin so that neither continues what was cut in the same way; of the beginnings tried, this pair missed none of
# 3,200 cuts of baseline, progressive and restart files that any other found.
_NOISE = random.Random(11)
_FILLINGS = tuple(begin + bytes(_NOISE.randrange(255) for _ in range(2048)) for begin in (b"\0\0\0\0", b"\xaa\xaa\xaa"))


@dataclass(kw_only=True)
class FirstPicture:
    """What makes the pixels, without the end marker."""

    parts: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    arithmetic: bool = False
    progressive: bool = False
    scans: int = 0
    reached: dict[int, list[int | None]] = field(default_factory=dict)
    """Component → the bits that each of its 64 coefficients still lacks; None before any came."""
    info: dict[str, bytes] = field(default_factory=dict)
    """The first of each of NOTES, by the names that Pillow has for them."""

    def endings(self) -> tuple[bytes, bytes]:
        """Two files of this picture: equal in their pixels if, and only if, none is missing."""
        body, restarts = b"".join(self.parts), _RESTART.findall(self.parts[-1])
        # A picture cut just before a restart wants that before it reads on.
        restart = bytes([0xFF, 0xD0 + ((restarts[-1][0] - 0xD0 + 1) % 8 if restarts else 0)])
        first, second = (b"".join((body, noise, restart, noise, END)) for noise in _FILLINGS)
        return first, second


def first_picture(body: bytes) -> FirstPicture:
    """Raises Damaged where the file ends before its picture does, or would keep a decoder busy with its segments."""
    found, at, segments = FirstPicture(), 2, 0
    while marker := _MARKER.search(body, at):
        kind, at, segments = marker[1][0], marker.end(), segments + 1
        if segments > MAX_SEGMENTS:
            what = "scans" if found.scans > MAX_SEGMENTS // 2 else "segments"
            raise Damaged(f"TOO_MANY_{what.upper()}", f"more than {MAX_SEGMENTS:,} segments, {what} most; save it anew")
        if kind == EOI:
            break
        if kind in STAND_ALONE:
            continue
        if kind in RESERVED:
            raise Damaged("CORRUPT", f"a marker that no picture has, FF {kind:02X} (at byte {at})")
        size = int.from_bytes(body[at : at + 2])
        segment, begin = body[at : at + size], at - 2
        if kind == SOI or size < 2 or len(segment) < size:
            break
        at += size
        if kind in FRAMES:
            found.arithmetic |= kind in ARITHMETIC
            found.progressive |= kind in PROGRESSIVE
        if kind == SOS:
            end = _END_OF_SCAN.search(body, at)
            if end is None:
                raise Damaged("TRUNCATED", NO_END)
            # Any number of FF may stand before a marker; before data they would be another thing.
            found.parts += [body[begin:at], _FILL.sub(b"\xff", body[at : end.start()]).rstrip(b"\xff")]
            found.scans += 1
            _note_scan(found.reached, segment)
            at = end.start()
        elif kind == ADOBE or not (0xE0 <= kind <= 0xEF or kind == COMMENT):
            found.parts.append(body[begin:at])  # Adobe's tells how the colours are stored
        elif kind == APP1 and (name := next((n for n, start in NOTES.items() if segment[2:].startswith(start)), "")):
            found.info.setdefault(name, segment[2:])
    else:
        raise Damaged("TRUNCATED", NO_END)
    if kind != EOI:
        raise Damaged("TRUNCATED", f"the file ends, or another begins, within the picture (at byte {at})")
    if not found.reached:
        raise Damaged("TRUNCATED", "the file has a header, but no picture")
    if found.progressive and not _complete(found.reached):
        raise Damaged("TRUNCATED", "the last scans of this progressive picture are missing")
    return found


def _note_scan(reached: dict[int, list[int | None]], segment: bytes) -> None:
    """Which coefficients a scan brings, and to how many bits (T.81, B.2.3)."""
    count = segment[2] if len(segment) > 2 else 0
    if len(segment) < 6 + 2 * count:
        raise Damaged("CORRUPT", "the header of a scan is too short")
    first, last, bits = segment[3 + 2 * count], segment[4 + 2 * count], segment[5 + 2 * count] & 15
    for component in segment[3 : 3 + 2 * count : 2]:
        known = reached.setdefault(component, [None] * 64)
        for coefficient in range(first, min(last, 63) + 1):
            known[coefficient] = bits


def _complete(reached: dict[int, list[int | None]]) -> bool:
    return all(bits == 0 for known in reached.values() for bits in known)
