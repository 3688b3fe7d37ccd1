"""The transforms that training and serving share."""

import io
import random
import re
import struct
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pictures import jpeg, picture, png, request


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


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "JPEG with XMP", "JPEG of the other byte order"])
def test_orientations_are_those_of_pillow(kind, orientation):
    exif = Image.Exif()
    exif.endian = ">" if "other" in kind else "<"
    exif[271], exif[picture.ORIENTATION] = "maker", orientation
    note = {"xmp": b'<rdf:Description tiff:Orientation="%d"/>' % orientation} if "XMP" in kind else {"exif": exif}
    body = saved(kind.partition(" ")[0], **note)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(body)))
    np.testing.assert_array_equal(np.asarray(picture.decode(body)), np.asarray(expected))


def test_exif_that_names_gigabytes_takes_none():
    entries = b"".join(struct.pack("<HHII", 1000 + number, 1, 2**18 - 20, 0) for number in range(20_000))
    bomb = (b"II*\0" + struct.pack("<IH", 8, 20_000) + entries).ljust(2**18, b"\0")
    tracemalloc.start()
    try:
        assert picture.decode(with_chunk(chunk(b"eXIf", bomb))).size == (64, 48)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


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
    assert jpeg.count_scans(saved("JPEG")) == 1
    usual = jpeg.count_scans(saved("JPEG", progressive=True))
    assert 6 <= usual <= 12
    assert jpeg.count_scans(repeated_scans(5) + saved("JPEG")) == usual + 5


def test_a_jpeg_of_endless_scans_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(picture, "MAX_SCANNED", 25 * 48 * 64)
    assert picture.decode(repeated_scans(10)).size == (64, 48)
    with pytest.raises(picture.BadImage, match="scans of 3,072 pixels; save it anew") as caught:
        picture.decode(repeated_scans(40))
    assert caught.value.code == "TOO_MANY_SCANS"


def jpeg_with(added, before=b"\xff\xdb"):
    """A JPEG with something more before its first segment of that kind."""
    body = saved("JPEG")
    at = body.index(before)
    return body[:at] + added + body[at:]


FILL = picture.MAX_BYTES - 2**16
EXIF = b"\xff\xe1\xff\xf0Exif\0\0" + CUT_EXIF + bytes(0xFFF0 - 8 - len(CUT_EXIF))
RESOURCES = b"\xff\xed\xff\xf0Photoshop 3.0\0" + (b"8BIM\x04\x04\0\0\0\0\0\0" * 6000)[: 0xFFF0 - 16]
PACKED = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(png.MAX_TEXT - 1)))


def pieces_of_pixels(size):
    body, parts = saved("PNG"), []
    at, end = body.index(b"IDAT") - 4, body.index(b"IEND") - 4
    data = body[at + 8 : end - 4]
    for begin in range(0, len(data), size):
        parts.append(chunk(b"IDAT", data[begin : begin + size]))
    return body[:at] + b"".join(parts) + body[end:]


#: A file of at most 25 MiB -> the word it is refused by, if it is.
LABOURS = {
    "24 MB of comments": (lambda: jpeg_with(b"\xff\xfe\0\x02" * (FILL // 4)), "TOO_MANY_SEGMENTS"),
    "24 MB of applications": (lambda: jpeg_with(b"\xff\xe5\0\x02" * (FILL // 4)), "TOO_MANY_SEGMENTS"),
    "24 MB of tables": (lambda: jpeg_with(b"\xff\xdd\0\x04\0\0" * (FILL // 6)), "TOO_MANY_SEGMENTS"),
    "segments behind an end": (lambda: b"\xff\xd8\xff\xd9" + b"\xff\xfe\0\x02" * (FILL // 4), "TRUNCATED"),
    "a segment of no length": (lambda: jpeg_with(b"\xff\xfe\0\0" + b"\xff" * FILL), "UNDECODABLE"),
    "24 MB of fill bytes": (lambda: jpeg_with(b"\xff" * FILL), None),
    "24 MB of nothing between": (lambda: jpeg_with(b"\xff\0" * (FILL // 2)), None),
    "24 MB of restarts": (lambda: jpeg_with(b"\xff\xd0" * (FILL // 2)), None),
    "24 MB of EXIF": (lambda: jpeg_with(EXIF * (FILL // len(EXIF))), None),
    "24 MB of resources": (lambda: jpeg_with(RESOURCES * (FILL // len(RESOURCES))), None),
    "24 MB of profiles": (lambda: jpeg_with((b"\xff\xe2\xff\xf0ICC_PROFILE\0\1\1").ljust(0xFFF2) * 380), None),
    "2 M empty chunks": (lambda: with_chunk(chunk(b"teXt", b"") * (FILL // 24)), "TOO_MANY_CHUNKS"),
    "2 M empty pixels": (lambda: with_chunk(chunk(b"IDAT", b"") * (FILL // 24)), "TOO_MANY_CHUNKS"),
    "2 M palettes": (lambda: with_chunk(chunk(b"PLTE", bytes(3)) * (FILL // 30)), "TOO_MANY_CHUNKS"),
    "pixels byte by byte": (lambda: pieces_of_pixels(1), None),
    "40,000 packed texts": (lambda: with_chunk(PACKED * 20_000), None),
    "40,000 frames": (lambda: with_chunk(chunk(b"fcTL", bytes(26)) * 20_000, animated()), None),
}


@pytest.mark.parametrize("labour", LABOURS)
def test_no_file_makes_more_work_than_its_pixels(labour):
    """Each took seconds to minutes where Pillow went through all of it."""
    make, code = LABOURS[labour]
    body = make()
    assert len(body) <= picture.MAX_BYTES
    began = time.process_time()
    if code:
        with pytest.raises(picture.BadImage) as caught:
            picture.decode(body)
        assert caught.value.code == code
    else:
        assert picture.decode(body).size in {(64, 48), (48, 64)}
    assert time.process_time() - began < 3


CPU_S = 10  # what SECURITY.md promises of a request


def test_the_most_laborious_picture_is_within_its_bound():
    """As many dense scans as fit into a file, just below the bound of scans: 2 s on one core, decoded twice."""
    grain = np.random.default_rng(0).integers(0, 256, (1000, 1500, 3), np.uint8)
    body = saved("JPEG", Image.fromarray(grain).resize((3000, 2000)), progressive=True, quality=60)
    last = body.rindex(b"\xff\xda")
    scans = min(picture.MAX_SCANNED // 6_000_000 - 12, (picture.MAX_BYTES - len(body)) // (len(body) - 2 - last))
    began = time.process_time()
    assert picture.decode(body[:-2] + body[last:-2] * scans + b"\xff\xd9", side=224).mode == "RGB"
    assert time.process_time() - began < CPU_S


def test_scans_cannot_hide_behind_what_decoders_skip():
    """A decoder that looks for a restart passes by FF 01 to FF BF; a length read there would jump over scans."""
    body = saved("JPEG", progressive=True)
    last, hidden = body.rindex(b"\xff\xda"), 40
    scans = (b"\xff\x02\xff\xff" + body[last:-2]) * hidden
    assert jpeg.count_scans(body[:-2] + scans + b"\xff\xd9") == jpeg.count_scans(body) + hidden


def test_arithmetic_coding_is_refused_by_name():
    with pytest.raises(picture.BadImage, match="arithmetic-coded"):
        picture.decode(saved("JPEG").replace(b"\xff\xc0", b"\xff\xc9"))


def test_cameras_files_are_within_the_bounds():
    """48 megapixels come with EXIF, XMP in parts, a profile in parts and an index of pictures."""
    notes = [b"Exif\0\0" + CUT_EXIF, b"http://ns.adobe.com/xmp/extension/\0", b"ICC_PROFILE\0\1\1", b"MPF\0"]
    added = b"".join(b"\xff\xe1" + struct.pack(">H", 2 + 60_000) + note.ljust(60_000, b"\0") for note in notes * 80)
    assert picture.decode(jpeg_with(added)).size == (48, 64)
    assert picture.decode(pieces_of_pixels(8)).size == (64, 48)


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
    assert picture.decoding_bytes(progressive, 100) == 1600 * 1200 * 3 + 200 * 150 * 8  # one of two rows, columns
    assert picture.decoding_bytes(picture.open_header(saved("PNG", grey.convert("RGBA")))) == 1600 * 1200 * 8


def test_the_scans_of_a_request_have_one_budget(monkeypatch):
    monkeypatch.setattr(picture, "MAX_SCANNED", 25 * 48 * 64)
    bodies = [repeated_scans(10)] * 2
    assert request.decode_all(bodies[:1], 16).shape == (1, 16, 16, 3)
    with pytest.raises(request.RequestError) as caught:
        request.decode_all(bodies, 16)
    assert (caught.value.status_code, caught.value.code) == (413, "TOO_MANY_SCANS")


@pytest.mark.parametrize("labour", [labour for labour, (_, code) in LABOURS.items() if code])
def test_what_is_too_much_work_is_the_callers_fault(labour):
    make, code = LABOURS[labour]
    with pytest.raises(request.RequestError) as caught:
        request.decode_all([make()], 16)
    assert (caught.value.code, caught.value.status_code in (413, 415, 422)) == (code, True)


PICTURES = Path(picture.__file__).parent


def test_every_code_has_a_status():
    """A picture's fault without one would be the server's."""
    source = "".join(path.read_text() for path in PICTURES.glob("*.py"))
    codes = set(re.findall(r'BadImage\(\s*"(\w+)"', source)) | set(re.findall(r'code = "(\w+)"', source))
    assert codes >= {"FORMAT", "TRUNCATED", "TOO_MANY_SEGMENTS", "TOO_MANY_CHUNKS"}
    assert codes <= set(request.STATUS)
