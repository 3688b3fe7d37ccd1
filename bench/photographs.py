"""Procedural photographs: JPEGs whose size, detail and cost to decode are those of a camera's, without any data set.

Brightness has the 1/f spectrum of natural images (Field 1987), colours are smoother; sizes are lognormal with a mean of
0.31 million pixels, which makes about 150 KB at quality 85. The same seed makes the same files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

MEAN_PIXELS = 0.31e6
SPREAD = 0.5
"""Standard deviation of the logarithm of the number of pixels."""
QUALITY = 85


def write(folder: Path, count: int, classes: int) -> None:
    """<folder>/<class>/<number>.jpg, the classes in turn; each has its own hue."""
    for number in range(count):
        path = folder / f"class{number % classes:02d}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(number, (number % classes) / classes).save(path, "JPEG", quality=QUALITY)


def photograph(seed: int, hue: float) -> Any:
    import math

    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    pixels = math.exp(random.normal(math.log(MEAN_PIXELS) - SPREAD**2 / 2, SPREAD))
    aspect = math.exp(random.uniform(math.log(0.7), math.log(1 / 0.7)))
    height, width = round(math.sqrt(pixels / aspect)), round(math.sqrt(pixels * aspect))
    brightness = 128 + 52 * noise(random, height, width, 1.0)
    tint = (24 * math.cos(2 * math.pi * hue), 24 * math.sin(2 * math.pi * hue))
    colours = [128 + shift + 20 * noise(random, height, width, 1.8) for shift in tint]
    planes = np.stack([brightness, *colours], axis=2).clip(0, 255).astype(np.uint8)
    return Image.merge("YCbCr", [Image.fromarray(plane) for plane in np.moveaxis(planes, 2, 0)])


def noise(random: Any, height: int, width: int, power: float) -> Any:
    """Of deviation 1 and a spectrum that falls with the frequency to that power."""
    import numpy as np

    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    shape = frequency.shape
    spectrum = (random.standard_normal(shape) + 1j * random.standard_normal(shape)) / frequency**power
    field = np.fft.irfft2(spectrum, (height, width))
    return field / field.std()
