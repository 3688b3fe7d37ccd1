"""A JPEG is whole when all its pixels are there and cut when one is not: by what its decoder reads, no colour."""

from __future__ import annotations

import random
import time
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from retraining.dataset.pictures.jpeg import first_picture
from retraining.dataset.pictures.verdict import Damaged
from retraining.dataset.pictures.verify import Rejected, VerifiedImage, verify_image

WAYS: dict[str, tuple[str, dict[str, object]]] = {
    "baseline": ("RGB", {}),
    "every sample": ("RGB", {"quality": 98, "subsampling": 0}),
    "optimised": ("RGB", {"optimize": True, "quality": 40}),
    "restarts": ("RGB", {"restart_marker_blocks": 3}),
    "progressive": ("RGB", {"progressive": True, "quality": 90}),
    "progressive restarts": ("RGB", {"progressive": True, "restart_marker_rows": 1}),
    "grey": ("L", {}),
    "ink": ("CMYK", {}),
}


def photo(mode: str = "RGB", letterbox: bool = False) -> Image.Image:
    picture = Image.frombytes("RGB", (24, 16), random.Random(1).randbytes(24 * 16 * 3))
    picture = picture.resize((144, 96), Image.Resampling.BICUBIC)
    if letterbox:
        square = Image.new("RGB", (144, 144), (128, 128, 128))
        square.paste(picture, (0, 24))
        picture = square
    return picture.convert(mode)


def jpeg(way: str, letterbox: bool = False) -> bytes:
    mode, settings = WAYS[way]
    body = BytesIO()
    photo(mode, letterbox).save(body, "JPEG", **settings)
    return body.getvalue()


def judged(tmp_path: Path, body: bytes) -> VerifiedImage | Rejected:
    path = tmp_path / "picture"
    path.write_bytes(body)
    return verify_image(path)


def shown(body: bytes) -> bytes:
    """What the decoder makes of a file, without a word about what it had to make up."""
    with Image.open(BytesIO(body)) as image:
        return image.tobytes()


@pytest.mark.parametrize("letterbox", [False, True], ids=["full", "letterboxed on grey 128"])
@pytest.mark.parametrize("way", WAYS)
def test_a_whole_picture_is_whole(tmp_path: Path, way: str, letterbox: bool) -> None:
    assert isinstance(judged(tmp_path, jpeg(way, letterbox)), VerifiedImage)


@pytest.mark.parametrize("letterbox", [False, True], ids=["full", "letterboxed on grey 128"])
@pytest.mark.parametrize("way", WAYS)
def test_a_cut_that_costs_pixels_is_seen(tmp_path: Path, way: str, letterbox: bool) -> None:
    """Cut anywhere and closed with an end marker, as broken downloads are repaired; the last bytes are the hardest."""
    body = jpeg(way, letterbox)
    begin = body.index(b"\xff\xda") + 14
    places = {*random.Random(7).sample(range(begin, len(body) - 2), 60), *range(len(body) - 14, len(body) - 2)}
    unseen = []
    for place in sorted(places):
        cut = body[:place] + b"\xff\xd9"
        if isinstance(judged(tmp_path, cut), VerifiedImage) and shown(cut) != shown(body):
            unseen.append(len(body) - place)
    # The very last byte may hold a single bit of one block's finest detail.
    assert [distance for distance in unseen if distance > 3] == []


def test_a_cut_between_two_restarts_is_seen(tmp_path: Path) -> None:
    body = jpeg("restarts")
    places = [at for at in range(len(body) - 1) if body[at] == 0xFF and 0xD0 <= body[at + 1] <= 0xD7]
    assert len(places) > 10
    assert {type(judged(tmp_path, body[:at] + b"\xff\xd9")) for at in places} == {Rejected}


def test_a_cut_between_two_scans_is_seen(tmp_path: Path) -> None:
    body = jpeg("progressive")
    scans = [at for at in range(len(body) - 1) if body[at : at + 2] == b"\xff\xda"]
    for at in scans[1:]:
        tables = body.rfind(b"\xff\xc4", scans[scans.index(at) - 1], at)
        verdict = judged(tmp_path, body[: tables if tables > 0 else at] + b"\xff\xd9")
        assert isinstance(verdict, Rejected)
        assert verdict.code == "TRUNCATED"


@pytest.mark.parametrize("behind", [b"\r\n", bytes(5000), b"\0\0\0\x18ftypmp42", b"\xff\xd8\xff\xe1\0\x04ab\xff\xda"])
def test_what_lies_behind_a_picture_does_not_count(tmp_path: Path, behind: bytes) -> None:
    assert isinstance(judged(tmp_path, jpeg("baseline") + behind), VerifiedImage)


def test_a_whole_thumbnail_does_not_stand_for_a_cut_picture(tmp_path: Path) -> None:
    """EXIF holds a JPEG of its own, with an end marker."""
    small = jpeg("grey")
    exif = b"\xff\xe1" + (len(small) + 8).to_bytes(2) + b"Exif\0\0" + small
    body = jpeg("baseline")
    assert isinstance(judged(tmp_path, body[:2] + exif + body[2:]), VerifiedImage)
    verdict = judged(tmp_path, body[:2] + exif + body[2 : len(body) // 2])
    assert isinstance(verdict, Rejected)
    assert (verdict.code, "no end marker" in verdict.detail) == ("TRUNCATED", True)


def test_arithmetic_coding_is_refused_by_name(tmp_path: Path) -> None:
    body = jpeg("baseline").replace(b"\xff\xc0", b"\xff\xc9", 1)
    verdict = judged(tmp_path, body)
    assert isinstance(verdict, Rejected)
    assert (verdict.code, "convert it" in verdict.detail) == ("FORMAT", True)


@pytest.mark.parametrize("scans", [500, 3000])
def test_a_picture_of_endless_scans_is_refused_at_once(tmp_path: Path, scans: int) -> None:
    """Each refines the same nothing: a small file that would be decoded for minutes."""
    body = BytesIO()
    Image.new("L", (4000, 4000), 128).save(body, "JPEG", progressive=True)
    whole = body.getvalue()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    verdict = judged(tmp_path, whole[:-2] + last * scans + b"\xff\xd9")
    assert isinstance(verdict, Rejected)
    assert (verdict.code, "save it anew" in verdict.detail) == ("TOO_MANY_SCANS", True)


HEAD = 20  # bytes: the mark of a JPEG and its first segment
FILL = 12 * 2**20


@pytest.mark.parametrize(
    ("between", "code"),
    [
        (b"\xff\xfe\0\x02" * 2001, "TOO_MANY_SEGMENTS"),
        (b"\xff\xfe\0\x02" * (FILL // 4), "TOO_MANY_SEGMENTS"),
        (b"\xff\xe1\0\x08Exif\0\0" * 2001, "TOO_MANY_SEGMENTS"),
        (b"\xff\xd0" * (FILL // 2), "TOO_MANY_SEGMENTS"),
        (b"\xff\xfe\xff\xff" + bytes(0xFFFD), None),
        (b"\xff" * FILL, None),
        (b"\0" * FILL, None),
        (b"\xff\0" * (FILL // 2), None),
    ],
    ids=[
        "small notes",
        "many of them",
        "EXIF again and again",
        "restarts",
        "a large note",
        "fill bytes",
        "noughts",
        "stuffed bytes",
    ],
)
def test_what_stands_before_a_picture_costs_little(tmp_path: Path, between: bytes, code: str | None) -> None:
    body = jpeg("baseline")
    began = time.process_time()
    verdict = judged(tmp_path, body[:HEAD] + between + body[HEAD:])
    assert time.process_time() - began < 2
    assert (verdict.code if isinstance(verdict, Rejected) else None) == code


@pytest.mark.parametrize("fill", [b"\xff" * FILL + b"\0", b"\xff" * FILL], ids=["then data", "then the end"])
def test_fill_bytes_in_a_scan_cost_little(tmp_path: Path, fill: bytes) -> None:
    body = jpeg("baseline")
    began = time.process_time()
    judged(tmp_path, body[:-2] + fill + body[-2:])
    assert time.process_time() - began < 2


def test_scans_cannot_hide_behind_what_decoders_skip(tmp_path: Path) -> None:
    """A decoder that looks for a restart passes by FF 02 to FF BF; a length read there would jump over scans."""
    body = jpeg("progressive")
    hidden = b"\xff\x02\xff\xff" + body[body.rindex(b"\xff\xda") : -2]
    with pytest.raises(Damaged, match="a marker that no picture has, FF 02"):
        first_picture(body[:-2] + hidden * 40 + b"\xff\xd9")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["before", "within", "behind"])
def test_a_marker_that_no_picture_has_is_damage(tmp_path: Path, way: str, place: str) -> None:
    """Behind it libjpeg reads nothing: training would give up on a file that a sync let through."""
    body = jpeg(way)
    scan = body.index(b"\xff\xda")
    at = {"before": scan, "within": scan + 60, "behind": len(body) - 2}[place]
    verdict = judged(tmp_path, body[:at] + b"\xff\x9e" + body[at:])
    assert isinstance(verdict, Rejected) and verdict.code == "CORRUPT", verdict
