"""The transforms that training and serving share."""

import io
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import picture


def encoded(size, kind="JPEG"):
    buffer = io.BytesIO()
    Image.effect_noise((9, 7), 90).convert("RGB").resize(size, Image.Resampling.BICUBIC).save(buffer, kind)
    return buffer.getvalue()


def test_numpy_and_torch_normalise_to_the_same_bits():
    """Servers without torch must see what training saw; every byte value occurs in every channel."""
    pixels = np.random.default_rng(0).permuted(np.arange(256 * 12, dtype=np.uint8).reshape(2, 32, 16, 3), axis=1)
    for mean, std in ((picture.MEAN, picture.STD), ((0.1, 0.2, 0.3), (1.0, 0.7, 0.123))):
        ours = picture.normalise(pixels, mean, std)
        theirs = picture.normalise(torch.from_numpy(pixels), mean, std)
        assert ours.dtype == np.float32 and ours.shape == tuple(theirs.shape) == (2, 3, 32, 16)
        np.testing.assert_array_equal(ours, theirs.numpy())


def test_a_picture_read_in_two_steps_is_the_one_read_in_one():
    for size in ((40, 30), (300, 500), (24, 24)):
        for kind in ("JPEG", "PNG"):
            body = encoded(size, kind)
            header = picture.open_header(body)
            assert header.size == size
            in_two = picture.to_pixels(picture.load(header, 24), 24)
            np.testing.assert_array_equal(in_two, picture.to_pixels(picture.decode(body, side=24), 24))


def test_damaged_pictures_only_ever_raise_bad_image():
    noise, body = random.Random(3), encoded((64, 48))
    for _ in range(300):
        damaged = bytearray(body)
        for _ in range(3):
            damaged[noise.randrange(len(damaged))] = noise.randrange(256)
        try:
            assert picture.decode(bytes(damaged), side=16).mode == "RGB"
        except picture.BadImage as error:
            assert error.code.isupper()  # noqa: PT017 (either end is right)


PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
CUT_EXIF = b"II*\0" + struct.pack("<IHHHIHH", 8, 5, picture.ORIENTATION, 3, 1, 6, 0)  # one entry of the five it names


def saved(kind, image=None, **options):
    buffer = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, content, wrong=0):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content) ^ wrong)


def with_chunk(added, body=None):
    """A PNG with a chunk more before its pixels, and once more behind them."""
    body = body or saved("PNG")
    at, end = body.index(b"IDAT") - 4, body.index(b"IEND") - 4
    return body[:at] + added + body[at:end] + added + body[end:]


def animated():
    frames = [Image.fromarray(PIXELS[::-1]), Image.fromarray(PIXELS[:, ::-1])]
    return saved("PNG", save_all=True, append_images=frames, default_image=True)


ODD = {
    "EXIF cut short": lambda: saved("JPEG", exif=b"Exif\0\0" + CUT_EXIF.replace(b"\x06", b"\x01")),
    "a second picture": lambda: saved("MPO", save_all=True, append_images=[Image.new("RGB", (32, 24))]),
    "a malformed index of pictures": lambda: saved(
        "MPO", save_all=True, append_images=[Image.new("RGB", (32, 24))]
    ).replace(b"MPF\0", b"MPF\0xxxxxx", 1),
    "a short JFIF segment": lambda: saved("JPEG").replace(
        b"\xff\xe0\0\x10JFIF\0", b"\xff\xe0\0\x07JFIF\0\xff\xfe\0\x09", 1
    ),
    "no density, and EXIF that points nowhere": lambda: (
        b"\xff\xd8\xff\xe1\0\x16Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(6) + saved("JPEG")[20:]
    ),
    "bytes behind the end": lambda: saved("JPEG") + b"\xff\xd8" + bytes(5000),
    "an animation": animated,
    "a long text": lambda: with_chunk(chunk(b"tEXt", b"Comment\0" + b"a" * 2**22)),
    "a text that unpacks to much": lambda: with_chunk(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**25)))),
    "a wrong checksum of a note": lambda: with_chunk(chunk(b"tIME", bytes(7), wrong=1)),
    "a profile that unpacks to much": lambda: with_chunk(chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(2**25)))),
    "a resolution of three bytes": lambda: with_chunk(chunk(b"pHYs", bytes(3))),
    "a turn in a text that unpacks to much": lambda: with_chunk(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(2**25)))
    ),
}


@pytest.mark.parametrize("oddity", ODD)
@pytest.mark.parametrize("filter", ["default", "error"])
def test_only_pixels_decide_about_a_picture(oddity, filter):
    """Whatever else is odd about the file, and whatever the process does with warnings."""
    body, plain = ODD[oddity](), saved("JPEG" if ODD[oddity]().startswith(b"\xff") else "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter(filter)
        found = picture.decode(body)
    assert found.size == (64, 48)
    if plain.startswith(b"\x89") or oddity == "bytes behind the end":
        np.testing.assert_array_equal(np.asarray(found), np.asarray(picture.decode(plain)))
    else:
        assert np.abs(np.asarray(found, int) - np.asarray(picture.decode(plain), int)).mean() < 2


@pytest.mark.parametrize("filter", ["default", "error"])
def test_a_turn_counts_where_exif_is_cut_short(filter):
    body = saved("JPEG", exif=b"Exif\0\0" + CUT_EXIF)
    with warnings.catch_warnings():
        warnings.simplefilter(filter)
        assert picture.decode(body).size == (48, 64)


def test_a_png_is_turned_as_its_notes_say():
    exif = b"Exif\0\0" + struct.pack("<4sIHHHIHHI", b"II*\0", 8, 1, picture.ORIENTATION, 3, 1, 6, 0, 0)
    as_text = b"\nexif\n%8d\n%s\n" % (len(exif), exif.hex().encode())
    xmp = b'<x:xmpmeta><rdf tiff:Orientation="6"/></x:xmpmeta>'
    for note in (
        chunk(b"eXIf", exif[6:]),
        chunk(b"tEXt", b"Raw profile type exif\0" + as_text),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(as_text)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
    ):
        assert picture.decode(with_chunk(note)).size == (48, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_pillow(orientation):
    exif = Image.Exif()
    exif[picture.ORIENTATION] = orientation
    body = saved("PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(body)))
    np.testing.assert_array_equal(np.asarray(picture.decode(body)), np.asarray(expected))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "I;16"])
def test_bands_of_rows_give_what_the_whole_gives(mode, monkeypatch):
    rng = np.random.default_rng(1)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65535, (48, 64), np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 255, (48, 64, 4), np.uint8), "RGBA").convert(mode)
    body = saved("PNG", image, **({"transparency": 7} if mode in ("P", "L") else {}))
    whole = np.asarray(picture.decode(body))
    monkeypatch.setattr(picture, "BAND_PIXELS", 300)
    np.testing.assert_array_equal(np.asarray(picture.decode(body)), whole)


def repeated_scans(count):
    """A progressive JPEG whose last scan comes `count` times more."""
    body = saved("JPEG", progressive=True)
    last = body.rindex(b"\xff\xda")
    return body[:-2] + body[last:-2] * count + b"\xff\xd9"


def test_scans_are_those_of_the_first_picture():
    assert picture.count_scans(saved("JPEG")) == 1
    usual = picture.count_scans(saved("JPEG", progressive=True))
    assert 6 <= usual <= 12
    assert picture.count_scans(repeated_scans(5) + saved("JPEG")) == usual + 5


def test_a_jpeg_of_endless_scans_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(picture, "MAX_SCANNED", 25 * 48 * 64)
    assert picture.decode(repeated_scans(10)).size == (64, 48)
    with pytest.raises(picture.BadImage, match="scans of 3,072 pixels; save it anew") as caught:
        picture.decode(repeated_scans(40))
    assert caught.value.code == "TOO_MANY_SCANS"


def test_a_file_of_too_many_bytes_is_refused():
    with pytest.raises(picture.BadImage, match=r"26,214,401 bytes; at most 26,214,400 are accepted"):
        picture.decode(saved("JPEG").ljust(picture.MAX_BYTES + 1, b"\0"))


def test_reduced_jpegs_take_little_memory_to_decode():
    body = saved("JPEG", Image.new("RGB", (1600, 1200)))
    header = picture.open_header(body)
    whole, reduced = picture.decoding_bytes(header), picture.decoding_bytes(header, 100)
    assert (whole, reduced) == (1600 * 1200 * 4, 200 * 150 * 4)
    assert picture.load(header, 100).size == (200, 150)


def test_progressive_and_transparent_pictures_take_more_memory():
    grey = Image.new("RGB", (1600, 1200))
    progressive = picture.open_header(saved("JPEG", grey, progressive=True))
    assert picture.decoding_bytes(progressive, 100) == 1600 * 1200 * 3 + 200 * 150 * 4  # one of two rows, columns
    assert picture.decoding_bytes(picture.open_header(saved("PNG", grey.convert("RGBA")))) == 1600 * 1200 * 8
