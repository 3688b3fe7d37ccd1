"""The picture of a PNG file: the chunks that make its pixels, and whether all of them are there.

Text, profiles, dates and thumbnails count for nothing, damaged or not; of an animation its default image counts.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from retraining.dataset.pictures.limits import MAX_CHUNKS
from retraining.dataset.pictures.verdict import Damaged

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
FEED_BYTES = 16 * 1024  # may unpack to a thousand times as much

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# x and y of the first pixel, and the steps to the next, of each pass (PNG, section 8.2).
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A PNG of nothing but its pixels."""

    body: bytes
    width: int
    height: int
    depth: int
    channels: int
    interlaced: bool
    data: bytes
    """All of IDAT, still deflated."""
    frames: int
    info: dict[str, bytes]
    """EXIF, where there is some, by the name that Pillow has for it."""

    def require_pixels(self) -> None:
        """Raises Damaged unless the data unpack to every row. Pillow is content with half of them."""
        missing, unpacker, data = self._size(), zlib.decompressobj(), memoryview(self.data)
        try:
            for at in range(0, len(data), FEED_BYTES):
                missing -= len(unpacker.decompress(data[at : at + FEED_BYTES]))
                if missing <= 0 or unpacker.eof:
                    break
        except zlib.error as error:
            raise Damaged("CORRUPT", f"the pixels do not unpack: {error}") from None
        if missing > 0:
            raise Damaged("TRUNCATED", f"{missing} bytes of the pixels are missing")

    def _size(self) -> int:
        """Of the unpacked rows, each with the byte that says how it was filtered."""
        passes = ADAM7 if self.interlaced else ((0, 0, 1, 1),)
        total = 0
        for x, y, right, down in passes:
            columns, rows = -(-(self.width - x) // right), -(-(self.height - y) // down)
            if columns > 0 and rows > 0:
                total += rows * (1 + -(-columns * self.channels * self.depth // 8))
        return total


def picture(body: bytes) -> Picture:
    """Raises Damaged when a chunk that makes pixels is cut, its checksum is wrong, or there are far too many."""
    kept: list[tuple[bytes, bytes]] = []
    info = dict[str, bytes]()
    frames, at, chunks = 1, len(SIGNATURE), 0
    while at + 8 <= len(body):
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise Damaged("TOO_MANY_CHUNKS", f"more than {MAX_CHUNKS:,} chunks; save it anew")
        size, kind = int.from_bytes(body[at : at + 4]), body[at + 4 : at + 8]
        end = at + 8 + size
        if kind == b"IEND":
            break
        if end + 4 > len(body):
            if kind in PIXELS or not any(kept_kind == b"IDAT" for kept_kind, _ in kept):
                raise Damaged("TRUNCATED", "the file ends before the picture does")
            break
        if kind in PIXELS:
            if zlib.crc32(body[at + 4 : end]) != int.from_bytes(body[end : end + 4]):
                raise Damaged("CORRUPT", f"the checksum of chunk {kind.decode()} is wrong")
            kept.append((kind, body[at + 8 : end]))
        elif kind == b"eXIf" and zlib.crc32(body[at + 4 : end]) == int.from_bytes(body[end : end + 4]):
            info.setdefault("exif", body[at + 8 : end])
        elif kind == b"acTL" and size >= 4:
            frames = max(1, int.from_bytes(body[at + 8 : at + 12]))
        at = end + 4
    data = b"".join(content for kind, content in kept if kind == b"IDAT")
    if not kept or kept[0][0] != b"IHDR" or len(kept[0][1]) != 13:
        raise Damaged("CORRUPT", "its first chunk is no header")
    if not data:
        raise Damaged("TRUNCATED", "the file has a header, but no picture")
    header = kept[0][1]
    depth, colours, interlace = header[8], header[9], header[12]
    if colours not in CHANNELS or depth not in (1, 2, 4, 8, 16):
        raise Damaged("CORRUPT", f"its header says {depth} bits and colour type {colours}, which PNG does not have")
    palette = next((content for kind, content in kept if kind == b"PLTE"), b"")
    if colours == 3 and not palette:
        raise Damaged("CORRUPT", "its palette is missing")
    alone = [(b"IHDR", header), *((kind, content) for kind, content in kept if kind in (b"PLTE", b"tRNS"))]
    return Picture(
        body=SIGNATURE + b"".join(_chunk(*chunk) for chunk in (*alone, (b"IDAT", data), (b"IEND", b""))),
        width=int.from_bytes(header[:4]),
        height=int.from_bytes(header[4:8]),
        depth=depth,
        channels=CHANNELS[colours],
        interlaced=interlace != 0,
        data=data,
        frames=frames,
        info=info,
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)
