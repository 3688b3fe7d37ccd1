"""The small grey picture that near-duplicates are found by, and the picture's mean colour."""

from __future__ import annotations

import base64
from typing import Any

from retraining.dataset.pictures.orientation import turned

SIDE = 32
"""Pixels, whatever the picture's shape: a copy may have been stretched."""
RESIZED = ("L", "RGB", "CMYK", "YCbCr")
"""Pillow's modes whose pixels can be averaged."""


BYTES = SIDE * SIDE + 3


def on_white(image: Any) -> Any:
    """A Pillow image in RGB as the network sees it: what is transparent has a colour too, that nobody sees."""
    from PIL import Image

    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def thumb_of(image: Any, orientation: int = 1) -> str:
    """SIDE x SIDE bytes of grey and three of red, green and blue, in base64; of a decoded Pillow image.

    Upright, where `orientation` is what the file says of it: a copy may have been turned for good.
    """
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion is white nearly everywhere
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    elif image.mode not in RESIZED or "transparency" in image.info:
        image = on_white(image)
    small = turned(image.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=3.0), orientation)
    colour = small.convert("RGB").resize((1, 1), Image.Resampling.BOX)
    return base64.b64encode(small.convert("L").tobytes() + colour.tobytes()).decode()
