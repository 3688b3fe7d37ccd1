"""What can be seen of a file that is kept out is shown, and what its decoder makes up is not."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retraining.dataset.pictures.glimpse import MAX_BYTES, SIDE, glimpse

RED_ABOVE_BLUE = np.repeat(np.array([[[220, 20, 20]], [[20, 20, 220]]], np.uint8), 150, axis=0).repeat(200, axis=1)
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)


def saved(kind: str, pixels: Any = RED_ABOVE_BLUE, **options: Any) -> bytes:
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, kind, **options)
    return body.getvalue()


def seen(body: bytes) -> Image.Image:
    picture = glimpse(body)
    assert picture is not None
    assert len(picture) <= MAX_BYTES
    image = Image.open(io.BytesIO(picture))
    assert image.format == "JPEG"
    assert max(image.size) <= SIDE
    return image.convert("RGB")


def is_red(image: Image.Image, x: float, y: float) -> bool:
    red, _, blue = image.getpixel((round(x * (image.width - 1)), round(y * (image.height - 1))))  # type: ignore[misc]
    return bool(red > 150 > blue)


def wrong_sum() -> bytes:
    body = bytearray(saved("PNG"))
    body[body.index(b"IDAT") + 4 + int.from_bytes(body[body.index(b"IDAT") - 4 : body.index(b"IDAT")])] ^= 1
    return bytes(body)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_whole_picture_is_seen_small(kind: str) -> None:
    image = seen(saved(kind))
    assert image.size == (64, SIDE)
    assert is_red(image, 0.5, 0.1) and not is_red(image, 0.5, 0.9)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_top_of_a_cut_picture_is_seen(kind: str) -> None:
    noisy = np.concatenate([RED_ABOVE_BLUE[:150], NOISE[:, :200]])
    body = saved(kind, noisy)
    assert is_red(seen(body[: len(body) // 2]), 0.5, 0.1)


def test_a_picture_with_a_wrong_sum_is_seen() -> None:
    assert is_red(seen(wrong_sum()), 0.5, 0.1)


def test_the_first_picture_of_an_animation_is_seen() -> None:
    later = Image.fromarray(RED_ABOVE_BLUE[::-1])
    assert is_red(seen(saved("GIF", save_all=True, append_images=[later])), 0.5, 0.1)


def test_a_picture_too_small_to_train_on_is_seen() -> None:
    assert seen(saved("PNG", RED_ABOVE_BLUE[::40, ::40])).size == (5, 8)


def test_a_picture_on_its_side_is_seen_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = seen(saved("JPEG", exif=exif))
    assert image.width > image.height
    assert is_red(image, 0.9, 0.5) and not is_red(image, 0.1, 0.5)


def test_noise_takes_no_more_bytes() -> None:
    assert seen(saved("PNG", NOISE)).size == (SIDE, SIDE)


def test_deep_greys_are_not_white() -> None:
    image = seen(saved("PNG", np.full((40, 40), 12_850, np.uint16)))
    assert image.getpixel((20, 20)) == (50, 50, 50)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        saved("JPEG")[:300],
        saved("PNG")[:50],
        b"RIFF\0\0\0\0WEBP",
        saved("PNG").replace((200).to_bytes(4), (120_000_001).to_bytes(4), 1),
        b"\x89PNG\r\n\x1a\n" + zlib.compress(b"x"),
    ],
    ids=["text", "nothing", "head of JPEG", "head of PNG", "head of WebP", "too large", "no chunk"],
)
def test_where_there_is_nothing_to_see_nothing_is_shown(body: bytes) -> None:
    assert glimpse(body) is None
