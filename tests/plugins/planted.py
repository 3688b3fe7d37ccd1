"""Faults that files of a source have, as (what it is, how it is made, the code that it must be kept out by)."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

Make = Callable[[random.Random], bytes]
PNG = b"\x89PNG\r\n\x1a\n"
SQUARE = struct.pack(">II", 20_000, 20_000)


def picture(chance: random.Random, size: tuple[int, int] | None = None, mode: str = "RGB") -> Image.Image:
    width, height = size or (chance.randrange(40, 120), chance.randrange(40, 120))
    bands = len(Image.new(mode, (1, 1)).getbands()) if mode not in ("1", "P") else 3
    noise = Image.frombytes(mode if mode not in ("1", "P") else "RGB", (8, 8), chance.randbytes(64 * bands))
    return noise.resize((width, height), Image.Resampling.NEAREST).convert(mode)


def saved(chance: random.Random, kind: str, image: Image.Image | None = None, **how: Any) -> bytes:
    body = io.BytesIO()
    (image or picture(chance)).save(body, kind, **how)
    return body.getvalue()


def cut(kind: str, share: float, end: bytes = b"", mode: str = "RGB", **how: Any) -> Make:
    """The first part of a file, as a copy that was interrupted leaves it."""

    def make(chance: random.Random) -> bytes:
        body = saved(chance, kind, picture(chance, mode=mode), **how)
        return body[: int(len(body) * share)] + end

    return make


def starting(head: bytes, rest: int = 200) -> Make:
    """A file of another kind."""
    return lambda chance: head + chance.randbytes(rest)


def text(content: str) -> Make:
    return lambda chance: content.encode()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += 12 + size


def png(change: Callable[[bytes, bytes], bytes | None], mode: str = "RGB", size: tuple[int, int] | None = None) -> Make:
    """A PNG whose chunks were changed; None drops one. Checksums are right."""

    def make(chance: random.Random) -> bytes:
        body = saved(chance, "PNG", picture(chance, size, mode))
        changed = ((kind, change(kind, data)) for kind, data in chunks(body))
        return PNG + b"".join(chunk(kind, data) for kind, data in changed if data is not None)

    return make


def without(*kinds: bytes) -> Callable[[bytes, bytes], bytes | None]:
    return lambda kind, data: None if kind in kinds else data


def of(wanted: bytes, change: Callable[[bytes], bytes]) -> Callable[[bytes, bytes], bytes | None]:
    return lambda kind, data: change(data) if kind == wanted else data


def flipped(kind: bytes) -> Make:
    """One bit of a chunk is another one, and its checksum tells."""

    def make(chance: random.Random) -> bytes:
        body = bytearray(saved(chance, "PNG"))
        at = body.index(kind)
        body[at + 4 + chance.randrange(8)] ^= 1 << chance.randrange(8)
        return bytes(body)

    return make


def jpeg(change: Callable[[bytes], bytes], **how: Any) -> Make:
    return lambda chance: change(saved(chance, "JPEG", **how))


def segment(marker: int) -> Callable[[bytes], bytes]:
    """A JPEG without the first segment of a kind."""

    def drop(body: bytes) -> bytes:
        at = body.index(bytes([0xFF, marker]))
        return body[:at] + body[at + 2 + int.from_bytes(body[at + 2 : at + 4], "big") :]

    return drop


def of_size(width: int, height: int) -> Callable[[bytes], bytes]:
    def resize(body: bytes) -> bytes:
        at = body.index(b"\xff\xc0")
        return body[: at + 5] + struct.pack(">HH", height, width) + body[at + 9 :]

    return resize


def many_scans(chance: random.Random) -> bytes:
    """The last scan of a progressive JPEG, again and again."""
    body = saved(chance, "JPEG", picture(chance, (900, 900)), progressive=True)
    last = body.rindex(b"\xff\xda")
    return body[:last] + body[last:-2] * 4000 + body[-2:]


def many_chunks(chance: random.Random) -> bytes:
    """A PNG with notes without end."""
    body = saved(chance, "PNG")
    return body[:33] + chunk(b"tEXt", b"a\0b") * 60_000 + body[33:]


def large(kind: str, mode: str = "1", **how: Any) -> Make:
    return lambda chance: saved(chance, kind, Image.new(mode, (12_100, 10_000)), **how)


def small(kind: str, mode: str = "RGB") -> Make:
    return lambda chance: saved(chance, kind, picture(chance, (chance.randrange(1, 16), 40), mode))


def tagged(tag: int, value: int) -> Make:
    """A TIFF with another number for a tag."""

    def make(chance: random.Random) -> bytes:
        body = bytearray(saved(chance, "TIFF"))
        at = struct.unpack_from("<I", body, 4)[0]
        for entry in range(at + 2, at + 2 + 12 * body[at], 12):
            if struct.unpack_from("<H", body, entry)[0] == tag:
                struct.pack_into("<HII", body, entry + 2, 4, 1, value)
        return bytes(body)

    return make


def zeros(kind: str) -> Make:
    """A disk's hole where the second half should be, as a full or failing disk leaves it."""

    def make(chance: random.Random) -> bytes:
        body = saved(chance, kind)
        return body[: len(body) // 2] + bytes(len(body) - len(body) // 2)

    return make


FAULTS: list[tuple[str, Make, str]] = [
    # -- other things
    ("nothing", text(""), "EMPTY"),
    ("zeros", lambda chance: bytes(4096), "NOT_IMAGE"),
    ("a web page", text("<!DOCTYPE html><html><body>404 Not Found"), "NOT_IMAGE"),
    ("an error of S3", text('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), "NOT_IMAGE"),
    ("a pointer of Git LFS", text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "NOT_IMAGE"),
    ("a list of labels", text("image,label\n1.jpg,cat\n"), "NOT_IMAGE"),
    ("annotations", text('{"images": [], "annotations": []}'), "NOT_IMAGE"),
    ("a document", starting(b"%PDF-1.7\n"), "NOT_IMAGE"),
    ("PostScript", starting(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "NOT_IMAGE"),
    ("an archive", starting(b"PK\x03\x04"), "NOT_IMAGE"),
    ("a packed file", starting(b"\x1f\x8b\x08"), "NOT_IMAGE"),
    ("a sound", starting(b"RIFF\x24\0\0\0WAVE"), "NOT_IMAGE"),
    ("a film", starting(b"\0\0\0\x20ftypisom"), "NOT_IMAGE"),
    ("a film of the web", starting(b"\x1aE\xdf\xa3"), "NOT_IMAGE"),
    ("an array", starting(b"\x93NUMPY\x01\0"), "NOT_IMAGE"),
    ("DICOM", lambda chance: bytes(128) + b"DICM" + chance.randbytes(200), "FORMAT"),
    ("an icon", starting(b"\0\0\x01\0\x01\0"), "NOT_IMAGE"),
    ("a program", starting(b"\x7fELF"), "NOT_IMAGE"),
    ("what a Mac leaves", starting(b"\0\x05\x16\x07\0\x02\0\0Mac OS X"), "NOT_IMAGE"),
    ("base64 of a picture", text("/9j/4AAQSkZJRgABAQAAAQABAAD"), "NOT_IMAGE"),
    # -- pictures that are not read
    ("a drawing in SVG", text('<svg xmlns="http://www.w3.org/2000/svg"/>'), "FORMAT"),
    ("a grey map of numbers", text("P2\n# made by hand\n2 2\n255\n0 1 2 3\n"), "FORMAT"),
    ("HEIC", starting(b"\0\0\0\x18ftypheic"), "FORMAT"),
    ("AVIF", starting(b"\0\0\0\x1cftypavif"), "FORMAT"),
    ("Photoshop", starting(b"8BPS\0\x01"), "FORMAT"),
    ("JPEG 2000", starting(b"\0\0\0\x0cjP  \r\n\x87\n"), "FORMAT"),
    ("a stream of JPEG 2000", starting(b"\xff\x4f\xff\x51"), "FORMAT"),
    ("JPEG XL", starting(b"\xff\x0a"), "FORMAT"),
    ("a box of JPEG XL", starting(b"\0\0\0\x0cJXL \r\n\x87\n"), "FORMAT"),
    ("BigTIFF", starting(b"II+\0"), "FORMAT"),
    ("an arithmetic JPEG", jpeg(lambda body: body.replace(b"\xff\xc0", b"\xff\xc9", 1)), "FORMAT"),
    ("fractions", lambda chance: saved(chance, "TIFF", Image.new("F", (40, 40), 0.5)), "FORMAT"),
    ("32 bits", lambda chance: saved(chance, "TIFF", Image.new("I", (40, 40), 70_000)), "FORMAT"),
    # -- JPEG
    ("a JPEG's first bytes", lambda chance: b"\xff\xd8\xff", "TRUNCATED"),
    ("a JPEG's header", cut("JPEG", 0.2), "TRUNCATED"),
    ("half a JPEG", cut("JPEG", 0.6), "TRUNCATED"),
    ("nearly a JPEG", cut("JPEG", 0.97), "TRUNCATED"),
    ("half a JPEG, closed", cut("JPEG", 0.7, b"\xff\xd9"), "TRUNCATED"),
    ("half a progressive JPEG", cut("JPEG", 0.6, progressive=True), "TRUNCATED"),
    ("half a progressive JPEG, closed", cut("JPEG", 0.7, b"\xff\xd9", progressive=True), "TRUNCATED"),
    ("half a grey JPEG", cut("JPEG", 0.7, mode="L"), "TRUNCATED"),
    ("half a JPEG of ink", cut("JPEG", 0.7, b"\xff\xd9", mode="CMYK"), "TRUNCATED"),
    ("a JPEG without its end", jpeg(lambda body: body[:-2]), "TRUNCATED"),
    ("a JPEG without a scan", jpeg(lambda body: body[: body.index(b"\xff\xda")] + b"\xff\xd9"), "TRUNCATED"),
    ("a JPEG without numbers to divide by", jpeg(segment(0xDB)), "CORRUPT"),
    ("a JPEG of no width", jpeg(of_size(0, 40)), "CORRUPT"),
    ("a JPEG of 65,000 a side", jpeg(of_size(65_000, 65_000)), "TOO_LARGE"),
    ("a JPEG of thousands of scans", many_scans, "TOO_MANY_SCANS"),
    ("a JPEG too small", small("JPEG"), "TOO_SMALL"),
    ("a JPEG half of zeros", zeros("JPEG"), "TRUNCATED"),
    # -- PNG
    ("a PNG's first bytes", lambda chance: PNG, "CORRUPT"),
    ("a PNG's header", cut("PNG", 0.1), "TRUNCATED"),
    ("half a PNG", cut("PNG", 0.6), "TRUNCATED"),
    ("a PNG without pixels", png(without(b"IDAT")), "TRUNCATED"),
    ("half of a PNG's pixels, closed", png(of(b"IDAT", lambda data: data[: len(data) // 2])), "TRUNCATED"),
    ("a PNG of a row less", png(of(b"IHDR", lambda data: data[:4] + struct.pack(">I", 500) + data[8:])), "TRUNCATED"),
    ("a PNG whose header changed", flipped(b"IHDR"), "CORRUPT"),
    ("a PNG whose pixels changed", flipped(b"IDAT"), "CORRUPT"),
    ("a PNG of no kind of colour", png(of(b"IHDR", lambda data: data[:9] + b"\x05" + data[10:])), "CORRUPT"),
    ("a PNG of 3 bits", png(of(b"IHDR", lambda data: data[:8] + b"\x03" + data[9:])), "CORRUPT"),
    ("a PNG of no width", png(of(b"IHDR", lambda data: bytes(4) + data[4:])), "CORRUPT"),
    ("a PNG with another packing", png(of(b"IDAT", lambda data: b"\xff" + data[1:])), "CORRUPT"),
    ("a PNG of 20,000 a side", png(of(b"IHDR", lambda data: SQUARE + data[8:])), "TOO_LARGE"),
    ("a PNG of 60,000 chunks", many_chunks, "TOO_MANY_CHUNKS"),
    ("a PNG too small", small("PNG"), "TOO_SMALL"),
    ("a PNG half of zeros", zeros("PNG"), "CORRUPT"),
    # -- the others
    ("half a GIF", cut("GIF", 0.6, mode="P"), "TRUNCATED"),
    ("a GIF's header", cut("GIF", 0.02, mode="P"), "CORRUPT"),
    ("a GIF too large", large("GIF"), "TOO_LARGE"),
    ("a GIF too small", small("GIF", "P"), "TOO_SMALL"),
    ("half a BMP", cut("BMP", 0.6), "TRUNCATED"),
    ("a BMP's header", lambda chance: saved(chance, "BMP")[:40], "TRUNCATED"),
    ("a BMP too large", large("BMP"), "TOO_LARGE"),
    ("a BMP too small", small("BMP"), "TOO_SMALL"),
    ("half a WebP", cut("WEBP", 0.6, lossless=True), "CORRUPT"),
    ("a WebP's header", cut("WEBP", 0.05, lossless=True), "CORRUPT"),
    ("a WebP too small", small("WEBP"), "TOO_SMALL"),
    ("half a TIFF", cut("TIFF", 0.6), "TRUNCATED"),
    ("half a packed TIFF", cut("TIFF", 0.6, compression="tiff_lzw"), "CORRUPT"),
    ("a TIFF of an unknown packing", tagged(259, 60_000), "CORRUPT"),
    ("a TIFF too large", large("TIFF", compression="group4"), "TOO_LARGE"),
    ("a TIFF too small", small("TIFF"), "TOO_SMALL"),
    # -- files
    ("more than 25 MiB", lambda chance: saved(chance, "JPEG").ljust(25 * 2**20 + 1, b"\0"), "TOO_BIG_BYTES"),
]  # fmt: skip
