"""A PNG is judged by the chunks that make its pixels, and by all of them."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from retraining.dataset.pictures.verify import Rejected, VerifiedImage, verify_image

SIDE = 32
ROWS = b"".join(b"\0" + bytes((row * 7) % 256 for _ in range(3 * SIDE)) for row in range(SIDE))


def chunk(kind: bytes, content: bytes, wrong: int = 0) -> bytes:
    return len(content).to_bytes(4) + kind + content + (zlib.crc32(kind + content) ^ wrong).to_bytes(4)


def png(data: bytes, *extra: bytes, colours: int = 2, interlace: int = 0, end: bytes = chunk(b"IEND", b"")) -> bytes:
    header = SIDE.to_bytes(4) * 2 + bytes([8, colours, 0, 0, interlace])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", data) + end


def judged(tmp_path: Path, body: bytes) -> VerifiedImage | Rejected:
    path = tmp_path / "picture"
    path.write_bytes(body)
    return verify_image(path)


@pytest.mark.parametrize(
    "body",
    [
        png(zlib.compress(ROWS)),
        png(zlib.compress(ROWS + b"more")),
        png(zlib.compress(ROWS), end=b""),
        png(zlib.compress(ROWS), chunk(b"tEXt", b"Comment\0x", wrong=1)),
        png(zlib.compress(ROWS), chunk(b"zTXt", b"c\0\0" + zlib.compress(b"x" * 5_000_000))),
        png(zlib.compress(ROWS), chunk(b"iCCP", b"x\0\0not a profile")),
        png(zlib.compress(ROWS), chunk(b"eXIf", b"MM\0*\0\0")),
        png(zlib.compress(ROWS), end=chunk(b"tIME", b"cut")[:-3]),
    ],
    ids=["plain", "more data", "no end", "text's sum", "large text", "profile", "EXIF", "cut behind the picture"],
)
def test_what_lies_around_the_pixels_does_not_count(tmp_path: Path, body: bytes) -> None:
    assert isinstance(judged(tmp_path, body), VerifiedImage)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (png(zlib.compress(ROWS[: len(ROWS) // 2])), "TRUNCATED", "1552 bytes of the pixels are missing"),
        (png(zlib.compress(ROWS[:-1])), "TRUNCATED", "1 bytes"),
        (png(zlib.compress(ROWS)[:-10]), "TRUNCATED", "bytes of the pixels are missing"),
        (png(b"not deflated at all"), "CORRUPT", "do not unpack"),
        (png(zlib.compress(ROWS), interlace=1), "TRUNCATED", "bytes of the pixels are missing"),
        (png(zlib.compress(ROWS), chunk(b"tRNS", b"\0\1\0\1\0\1", wrong=1)), "CORRUPT", "checksum of chunk tRNS"),
        (png(zlib.compress(ROWS), colours=3), "CORRUPT", "palette is missing"),
        (png(zlib.compress(ROWS), colours=5), "CORRUPT", "colour type 5"),
        (png(zlib.compress(ROWS))[:60], "TRUNCATED", "ends before the picture does"),
        (png(zlib.compress(ROWS), chunk(b"teXt", b"") * 50_001), "TOO_MANY_CHUNKS", "more than 50,000 chunks"),
        (png(zlib.compress(ROWS), chunk(b"IDAT", b"") * 50_001), "TOO_MANY_CHUNKS", "more than 50,000 chunks"),
    ],
)
def test_damage_that_costs_pixels_is_named(tmp_path: Path, body: bytes, code: str, words: str) -> None:
    verdict = judged(tmp_path, body)
    assert isinstance(verdict, Rejected)
    assert verdict.code == code
    assert words in verdict.detail
