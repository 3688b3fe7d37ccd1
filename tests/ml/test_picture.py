"""The transforms that training and serving share."""

import io
import random

import numpy as np
import torch
from PIL import Image

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
