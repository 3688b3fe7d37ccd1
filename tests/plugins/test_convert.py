"""What is neither JPEG nor PNG becomes a PNG of the same pixels."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retraining.dataset.pictures.verify import Rejected, VerifiedImage, verify_image


def pixels(mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> Image.Image:
    if mode == "P":
        return pixels("RGB", size).convert("P")
    values = np.random.default_rng(5).integers(0, 256, (size[1], size[0], len(Image.new(mode, (1, 1)).getbands())))
    return Image.fromarray(values.astype(np.uint8).squeeze(), mode if mode != "1" else "L").convert(mode)


def deep(high: int = 65535) -> Image.Image:
    return Image.fromarray(np.random.default_rng(5).integers(0, high, (32, 48)).astype(np.uint16))


def converted(folder: Path, image: Image.Image, kind: str, **how: Any) -> Image.Image:
    """The PNG that becomes of an image that was saved as `kind`."""
    path = folder / "picture"
    image.save(path, kind, **how)
    verdict = verify_image(path, folder)
    assert isinstance(verdict, VerifiedImage), verdict
    assert verdict.original is not None
    assert verdict.original.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    body = (folder / verdict.sha256).read_bytes()
    assert hashlib.sha256(body).hexdigest() == verdict.sha256
    assert body.startswith(b"\x89PNG")
    return Image.open(BytesIO(body))


@pytest.mark.parametrize(
    ("mode", "kind", "how"),
    [
        ("RGB", "BMP", {}),
        ("L", "BMP", {}),
        ("P", "BMP", {}),
        ("P", "GIF", {}),
        ("L", "GIF", {}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGBA", "WEBP", {"lossless": True, "exact": True}),
        ("RGB", "TIFF", {}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("RGBA", "TIFF", {}),
        ("LA", "TIFF", {}),
        ("L", "TIFF", {"compression": "packbits"}),
        ("1", "TIFF", {"compression": "group4"}),
    ],
)
def test_no_pixel_is_lost(tmp_path: Path, mode: str, kind: str, how: dict[str, Any]) -> None:
    image = pixels(mode)
    made = converted(tmp_path, image, kind, **how)
    assert np.array_equal(np.asarray(made.convert("RGBA")), np.asarray(image.convert("RGBA")))


def test_sixteen_bits_stay_sixteen(tmp_path: Path) -> None:
    made = converted(tmp_path, deep(), "TIFF")
    assert np.array_equal(np.asarray(made), np.asarray(deep()))


def test_sixteen_bits_of_either_order_are_the_same(tmp_path: Path) -> None:
    """Big-endian ones, as ImageJ writes them, Pillow opens and can do next to nothing with."""
    numbers = np.asarray(deep())
    made = converted(tmp_path, Image.frombytes("I;16B", (48, 32), numbers.astype(">u2").tobytes()), "TIFF")
    assert np.array_equal(np.asarray(made), numbers)


def test_an_x_ray_whose_white_is_zero_is_turned_round(tmp_path: Path) -> None:
    """Pillow turns 8 bits round, and forgets 16."""
    made = converted(tmp_path, deep(), "TIFF", tiffinfo={262: 0})
    assert np.array_equal(np.asarray(made), 65535 - np.asarray(deep()))


def test_ink_becomes_light(tmp_path: Path) -> None:
    image = pixels("CMYK")
    made = converted(tmp_path, image, "TIFF")
    assert np.array_equal(np.asarray(made), np.asarray(image.convert("RGB")))


def test_the_first_of_many_pictures_counts(tmp_path: Path) -> None:
    first, second = pixels("RGB"), Image.new("RGB", (48, 32))
    for kind, how in (("GIF", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        path = tmp_path / "many"
        first.convert("P").convert("RGB").save(path, kind, save_all=True, append_images=[second], **how)
        verdict = verify_image(path, tmp_path)
        assert isinstance(verdict, VerifiedImage)
        assert verdict.frames == 2
        made = np.asarray(Image.open(tmp_path / verdict.sha256).convert("RGB"))
        assert made.std() > 10, kind


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_what_was_held_sideways_stands_upright(tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    made = converted(tmp_path, pixels("RGB"), kind, exif=exif, lossless=True)
    assert made.size == (32, 48)
    assert not made.getexif()


def test_pixels_without_a_known_range_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    for image in (Image.new("F", (32, 32), 0.5), Image.new("I", (32, 32), 70_000)):
        image.save(path, "TIFF")
        verdict = verify_image(path, tmp_path)
        assert isinstance(verdict, Rejected)
        assert verdict.code == "FORMAT"
        assert "convert it" in verdict.detail


def test_no_format_is_decoded_beyond_the_limits(tmp_path: Path) -> None:
    """By its header; none of them is decoded to find that out."""
    path = tmp_path / "picture"
    for kind in ("BMP", "TIFF", "GIF"):
        Image.new("1", (12_100, 10_000)).save(path, kind, **({"compression": "group4"} if kind == "TIFF" else {}))
        verdict = verify_image(path, tmp_path)
        assert isinstance(verdict, Rejected), kind
        assert verdict.code == "TOO_LARGE", kind


def test_the_same_file_is_the_same_image_everywhere(tmp_path: Path) -> None:
    """Another zlib packs the PNG otherwise, and that must be no new data."""
    path = tmp_path / "picture"
    pixels().save(path, "BMP")
    verdict = verify_image(path)
    assert isinstance(verdict, VerifiedImage)
    assert verdict.original is not None
    expected = hashlib.sha256(f"png-1:{hashlib.sha256(path.read_bytes()).hexdigest()}".encode()).hexdigest()
    assert verdict.identity == expected
