"""Every image is judged by its pixels, whatever it is called."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from bench.good_pictures import PILLOW, good_pictures
from retraining.dataset.pictures.verify import Rejected, VerifiedImage, verify_image

PLUGINS = Path(__file__).parents[2] / "plugins"


def noise(kind: str, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> bytes:
    body = BytesIO()
    Image.effect_noise(size, 90).convert(mode).save(body, kind)
    return body.getvalue()


def png_of(width: int, height: int) -> bytes:
    """A PNG header that claims any size, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 0x40]) + body[at + 1 :]


def animated() -> bytes:
    body = BytesIO()
    frames = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in (0, 200)]
    frames[0].save(body, "PNG", save_all=True, append_images=frames[1:])
    return body.getvalue()


def with_second_picture() -> bytes:
    """As phones and cameras write their .jpg: a preview lies behind the picture, and a list names both."""
    body = BytesIO()
    Image.effect_noise((96, 64), 90).convert("RGB").save(
        body, "MPO", save_all=True, append_images=[Image.new("RGB", (32, 24))]
    )
    return body.getvalue()


def wide() -> bytes:
    """A panorama."""
    body = BytesIO()
    Image.new("L", (20_000, 64)).save(body, "JPEG")
    return body.getvalue()


def deep() -> bytes:
    body = BytesIO()
    Image.new("I;16", (32, 32), 40_000).save(body, "PNG")
    return body.getvalue()


@pytest.mark.parametrize(
    ("body", "extension"),
    [
        (noise("JPEG"), "jpg"),
        (noise("PNG"), "png"),
        (noise("PNG", mode="L"), "png"),
        (noise("JPEG", mode="CMYK"), "jpg"),
        (with_second_picture(), "jpg"),
        (animated(), "png"),
        (wide(), "jpg"),
        (deep(), "png"),
    ],
)
def test_whole_images_are_accepted_by_their_first_bytes(tmp_path: Path, body: bytes, extension: str) -> None:
    path = tmp_path / "any.name"
    path.write_bytes(body)
    verdict = verify_image(path)
    assert isinstance(verdict, VerifiedImage)
    assert (verdict.extension, verdict.size_bytes, len(verdict.sha256)) == (extension, len(body), 64)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "EMPTY"),
        (b"<html><body>404 Not Found", "NOT_IMAGE"),
        (b"%PDF-1.7", "NOT_IMAGE"),
        (b"GIF89a nothing", "CORRUPT"),
        (noise("BMP")[:900], "TRUNCATED"),
        (noise("GIF")[:900], "TRUNCATED"),
        (noise("TIFF")[:900], "TRUNCATED"),
        (noise("WEBP")[:900], "CORRUPT"),
        (noise("TIFF", mode="F"), "FORMAT"),
        (noise("BMP", (8, 64)), "TOO_SMALL"),
        (b"RIFF\0\0\0\0WAVE", "NOT_IMAGE"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "FORMAT"),
        (bytes(128) + b"DICM", "FORMAT"),
        (noise("JPEG")[:-2], "TRUNCATED"),
        (noise("JPEG")[: len(noise("JPEG")) // 2], "TRUNCATED"),
        (noise("PNG")[:-20], "TRUNCATED"),
        (noise("PNG")[:400], "TRUNCATED"),
        (flipped(noise("PNG"), 200), "CORRUPT"),
        (png_of(20_000, 20_000), "TOO_LARGE"),
        (png_of(33_000, 20), "TOO_LARGE"),
        (noise("PNG", (8, 64)), "TOO_SMALL"),
    ],
)
def test_everything_else_is_rejected_with_its_reason(tmp_path: Path, body: bytes, code: str) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(body)
    verdict = verify_image(path)
    assert isinstance(verdict, Rejected)
    assert verdict.code == code
    assert verdict.detail


def test_a_cut_jpeg_with_an_end_marker_is_seen(tmp_path: Path) -> None:
    """Pillow and libjpeg decode it without an error, its lower half grey."""
    body = noise("JPEG", (128, 128))
    path = tmp_path / "image.jpg"
    path.write_bytes(body[: len(body) // 2] + b"\xff\xd9")
    verdict = verify_image(path)
    assert isinstance(verdict, Rejected)
    assert verdict.code == "TRUNCATED"


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(animated())
    verdict = verify_image(path)
    assert isinstance(verdict, VerifiedImage)
    assert verdict.frames == 2


@pytest.mark.slow
def test_good_pictures_of_many_hands_are_taken(tmp_path: Path) -> None:
    """A share of what `make bench-pictures` does with 10,000 files and more encoders."""
    path, refused = tmp_path / "image", []
    for what, body in good_pictures(1200, PILLOW, seed=3):
        path.write_bytes(body)
        if isinstance(verdict := verify_image(path), Rejected):
            refused.append((what, verdict))
    assert refused == []


def test_threads_agree_and_leave_the_warnings_alone(tmp_path: Path) -> None:
    """Other code of the same worker still warns as it did."""
    for number, (_, body) in enumerate(good_pictures(200, PILLOW, seed=5)):
        (tmp_path / f"{number}").write_bytes(body)
    paths, before = sorted(tmp_path.iterdir()), list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert {type(verdict) for verdict in pool.map(verify_image, paths)} == {VerifiedImage}
    assert list(warnings.filters) == before


@pytest.mark.slow
def test_a_108_megapixel_picture_is_taken_within_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    Image.new("RGB", (12_000, 9_000), (10, 120, 200)).save(path, quality=80)
    program = (
        "import sys; from pathlib import Path; from retraining.dataset.pictures.verify import verify_image;"
        "print(type(verify_image(Path(sys.argv[1]))).__name__, Path('/proc/self/status').read_text())"
    )
    environment = os.environ | {"PYTHONPATH": str(PLUGINS)}
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("VerifiedImage ")
    # Not ru_maxrss, which begins with what the parent had.
    assert int(done.stdout.split("VmHWM:")[1].split()[0]) < 600 * 1024  # KiB


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert [verify_image(tmp_path / name).code for name in ("pipe", "link")] == ["NOT_REGULAR"] * 2  # type: ignore[union-attr]


def test_a_clone_without_its_pictures_is_told(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
    found = verify_image(tmp_path / "1.jpg")
    assert isinstance(found, Rejected) and found.code == "NOT_IMAGE" and "git lfs pull" in found.detail


@pytest.mark.parametrize(
    ("body", "name", "how"),
    [
        (b"P5 92 112 255\n" + bytes(92 * 112), "Netpbm", "mogrify -format png"),
        (b"P6\n# GIMP\n2 2\n255\n" + bytes(12), "Netpbm", "mogrify"),
        (b"\0\0\0\x18ftypheic" + bytes(9), "HEIC", "mogrify"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG", "rsvg-convert"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn -->\n<svg/>', "SVG", "rsvg-convert"),
        (bytes(128) + b"DICM" + bytes(20), "DICOM", "dcmj2pnm"),
        (b"8BPS\0\x01" + bytes(20), "PSD", "magick '1.psd[0]'"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", "mogrify"),
    ],
)
def test_a_picture_not_read_says_how_to_convert(tmp_path: Path, body: bytes, name: str, how: str) -> None:
    (tmp_path / "1").write_bytes(body)
    found = verify_image(tmp_path / "1")
    assert isinstance(found, Rejected) and found.code == "FORMAT"
    assert found.detail.startswith(name) and f"PNG: {how}" in found.detail


@pytest.mark.parametrize("text", ["P1 cat", "P5", "<!DOCTYPE html><svg/>", "<?xml version='1.0'?><Error/>"])
def test_other_texts_are_no_pictures(tmp_path: Path, text: str) -> None:
    (tmp_path / "1").write_text(text)
    assert getattr(verify_image(tmp_path / "1"), "code", "") == "NOT_IMAGE"
