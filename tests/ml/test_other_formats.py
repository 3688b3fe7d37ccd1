"""WebP, GIF, BMP and TIFF at the endpoint: the pixels of a good file, bounded work for every other."""

from __future__ import annotations

import io
import random
import struct
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from dataset import channel
from pictures import gif, picture, request, tiff
from pictures.bad_image import BadImage

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

KINDS = ("WEBP", "GIF", "BMP", "TIFF")
MOST_S = 2.0  # of the processor; without the bounds it is minutes


def noise(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    values = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(values).convert(mode)


def saved(kind: str, image: Image.Image | None = None, **how: Any) -> bytes:
    buffer = io.BytesIO()
    (image or noise()).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}) | how)
    return buffer.getvalue()


def refused(body: bytes) -> str:
    """The code, found at small cost."""
    began = time.process_time()
    with pytest.raises(BadImage) as error:
        picture.decode(body, side=24)
    assert time.process_time() - began < MOST_S
    return error.value.code


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_read(kind: str, tmp_path: Path) -> None:
    image = noise("P") if kind == "GIF" else noise()
    body = saved(kind, image)
    np.testing.assert_array_equal(np.asarray(picture.decode(body)), np.asarray(image.convert("RGB")))
    answer = request.read_request(body, f"image/{kind.lower()}").decoded(24)
    assert answer.pixels is not None and answer.pixels.shape == (1, 24, 24, 3)
    (tmp_path / "picture").write_bytes(body)
    assert channel.begins_as_image(tmp_path / "picture")


def test_a_text_is_no_bmp() -> None:
    assert picture.format_of(b"BM: notes of Monday's meeting") is None


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_what_was_held_sideways_stands_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert picture.decode(saved(kind, exif=exif)).size == (48, 64)


def test_a_gif_without_its_surroundings_is_the_same_picture() -> None:
    body = saved("GIF", noise("P"), comment=b"made by hand", transparency=3, save_all=True, append_images=[noise("L")])
    bare = gif.essence(body)
    assert len(bare) < len(body) and b"made by hand" not in bare
    first, same = (np.asarray(Image.open(io.BytesIO(one)).convert("RGBA")) for one in (body, bare))
    np.testing.assert_array_equal(first, same)


# --- bounded work -----------------------------------------------------------------------------------------------------


def test_comments_of_a_gif_cost_nothing() -> None:
    body = saved("GIF", noise("P"))
    at = 13 + gif.colours(body[10])
    comments = b"\x21\xfe" + (b"\xff" + b"c" * 255) * 90_000 + b"\0"
    began = time.process_time()
    assert picture.decode(body[:at] + comments + body[at:]).size == (64, 48)
    assert time.process_time() - began < MOST_S


def test_a_canvas_is_measured_before_memory_is_taken() -> None:
    body = bytearray(saved("WEBP", xmp=b"<x/>"))
    assert body[12:16] == b"VP8X"
    body[24:30] = b"\xff\xff\x00\xff\xff\x00"
    assert refused(bytes(body)) == "TOO_MANY_PIXELS"


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_pixels_are_told_by_the_header(kind: str) -> None:
    wide = Image.new("1", (16_000, 4_000))
    how = {"TIFF": {"compression": "packbits"}, "WEBP": {"quality": 0, "method": 0}}.get(kind, {})
    assert refused(saved(kind, wide.convert("L") if kind == "WEBP" else wide, **how)) == "TOO_MANY_PIXELS"


def test_a_long_run_length_bmp_is_refused() -> None:
    body = bytearray(saved("BMP", noise("P")))
    body[30:34] = struct.pack("<I", 1)
    assert refused(bytes(body) + b"\1\0" * 2**20) == "TOO_MANY_BYTES"


def retagged(tag: int, kind: int, count: int, value: int, add: bool = False) -> bytes:
    """A TIFF with another entry for a tag, or one that it had not."""
    body = bytearray(saved("TIFF", noise("L")))
    at = struct.unpack_from("<I", body, 4)[0]
    entries = [bytes(body[place : place + 12]) for place in range(at + 2, at + 2 + 12 * body[at], 12)]
    new = struct.pack("<HHII", tag, kind, count, value)
    kept = [entry for entry in entries if struct.unpack_from("<H", entry)[0] != tag]
    assert add or len(kept) < len(entries)
    place, kept = len(body), sorted([*kept, new], key=lambda entry: struct.unpack_from("<H", entry)[0])
    struct.pack_into("<I", body, 4, place)
    return bytes(body) + struct.pack("<H", len(kept)) + b"".join(kept) + bytes(4)


@pytest.mark.parametrize(
    ("tag", "kind", "count", "value", "code"),
    [
        (700, 7, 2**31, 8, "UNDECODABLE"),  # a text of 2 GB
        (tiff.TILE_WIDTH, 4, 1, 2**20, "UNDECODABLE"),
        (tiff.STRIP_COUNTS, 4, 1, 2**30, "UNDECODABLE"),
        (tiff.STRIP_COUNTS, 1, 60_000, 8, "UNDECODABLE"),
        (tiff.COMPRESSION, 3, 1, 34925, "FORMAT"),  # LZMA
        (tiff.COMPRESSION, 3, 1, 4, "FORMAT"),  # fax
        (tiff.WIDTH, 4, 1, 2**30, "TOO_MANY_PIXELS"),
    ],
)
def test_a_directory_is_not_believed(tag: int, kind: int, count: int, value: int, code: str) -> None:
    assert refused(retagged(tag, kind, count, value, add=True)) == code


@pytest.mark.parametrize("tags", [[(3, 5), (3, 4)], [(3, 4), (3, 5)], [(8, 4)]], ids=["last", "first", "signed"])
def test_a_decoder_cannot_hide_in_its_tag(tags: list[tuple[int, int]]) -> None:
    """Kind and number of the tag of compression, where 4 is fax; Pillow and libtiff each find it."""
    body = bytearray(saved("TIFF", noise("L").convert("1"), compression="group4"))
    at = struct.unpack_from("<I", body, 4)[0]
    entries = [bytes(body[place : place + 12]) for place in range(at + 2, at + 2 + 12 * body[at], 12)]
    place = next(n for n, entry in enumerate(entries) if struct.unpack_from("<H", entry)[0] == tiff.COMPRESSION)
    entries[place : place + 1] = [struct.pack("<HHII", tiff.COMPRESSION, kind, 1, value) for kind, value in tags]
    struct.pack_into("<I", body, 4, len(body))
    hidden = bytes(body) + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    assert refused(hidden) == "UNDECODABLE"


def of_strips(strips: list[bytes], kind: int = 4) -> bytes:
    """A grey TIFF of JPEGs of 256 x 64 pixels; `kind`: how their sizes are written."""
    height, start = 64 * len(strips), 8 + 2 + 9 * 12 + 4
    data = start + 8 * len(strips)
    sizes = [len(strip) for strip in strips]
    places = [data + sum(sizes[:number]) for number in range(len(strips))]
    one = len(strips) == 1
    tags = [(256, 4, 1, 256), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 1)]
    tags += [(273, 4, len(strips), places[0] if one else start), (277, 3, 1, 1), (278, 4, 1, 64)]
    tags += [(279, kind, len(strips), sizes[0] if one else start + 4 * len(strips))]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    numbers = struct.pack(f"<{2 * len(strips)}I", *places, *sizes)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + numbers + b"".join(strips)


def test_scans_within_a_tiff_are_counted() -> None:
    plain, progressive = (saved("JPEG", Image.new("L", (256, 64), 99), progressive=so) for so in (False, True))
    last = progressive[progressive.rindex(b"\xff\xda") : -2]
    endless = progressive[:-2] + 80 * last + progressive[-2:]
    assert picture.decode(of_strips([plain])).size == (256, 64)
    assert picture.decode(of_strips([plain] * 3)).size == (256, 192)
    assert refused(of_strips([plain, endless, plain])) == "TOO_MANY_SCANS"
    assert refused(of_strips([endless], kind=9)) == "UNDECODABLE"  # a signed size, which libtiff reads all the same
    unsized = bytearray(of_strips([endless]))
    unsized[10 + 8 * 12 : 10 + 9 * 12] = struct.pack("<HHII", 65000, 4, 1, 0)  # nor without any
    assert refused(bytes(unsized)) == "UNDECODABLE"


def test_a_directory_without_end_is_refused() -> None:
    tags = b"".join(struct.pack("<HHII", 1000 + number, 7, 2**20, 8) for number in range(60_000))
    assert refused(b"II*\0" + struct.pack("<IH", 8, 60_000) + tags) == "TOO_MANY_SEGMENTS"


def test_pixels_without_a_known_range_are_refused() -> None:
    for image in (Image.new("F", (32, 32), 0.5), Image.new("I", (32, 32), 70_000)):
        assert refused(saved("TIFF", image)) == "FORMAT"


def test_damage_ends_in_a_bad_image() -> None:
    chance, whole = random.Random(5), [saved(kind, noise("P")) for kind in ("GIF", "BMP")]
    whole += [saved("WEBP"), saved("WEBP", xmp=b"<x/>"), saved("TIFF", compression="tiff_lzw"), saved("TIFF")]
    whole += [saved("TIFF", compression="packbits"), saved("TIFF", noise(), compression="jpeg")]
    read = 0
    for _ in range(1500):
        body = bytearray(chance.choice(whole))
        for _ in range(chance.randrange(1, 6)):
            body[chance.randrange(min(len(body), chance.choice([64, 10_000])))] = chance.randrange(256)
        try:
            read += picture.decode(bytes(body[: chance.choice([len(body), chance.randrange(30, len(body))])])).width > 0
        except BadImage:
            continue
    assert read > 100
