"""scikit-learn's handwritten digits (1,797 real images, part of its installation) as class folders of PNG files."""

from __future__ import annotations

from pathlib import Path

SIDE = 32
"""Pixels. The originals have 8: enlarged by whole numbers nothing is invented, and networks have room to look."""


def write_digits(target: Path) -> int:
    """Write `target`/<digit>/<number>.png for every image; returns how many. Same bytes on every machine."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label in digits.target_names:
        (target / str(label)).mkdir(parents=True, exist_ok=True)
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        # The values are 0 to 16; 255/16 spreads them over a byte.
        image = Image.fromarray((pixels * (255 / 16)).round().astype("uint8"), mode=None).resize(
            (SIDE, SIDE), Image.Resampling.NEAREST
        )
        image.save(target / str(label) / f"{number:04d}.png")
    return len(digits.target)
