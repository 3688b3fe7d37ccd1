"""An image -> the pixels a network sees.

The only home of the transforms: training and inference share every step, so a picture means the same to both. Without
torch, so that a server whose model needs none does not wait for its import.
"""

import contextlib
import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, which pretrained weights expect; as good as any for training from scratch
STD = (0.229, 0.224, 0.225)
# Of Pillow's forty decoders only the two that pipelines need: each one more is attack surface.
FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 50_000_000


class BadImage(ValueError):
    """An image that cannot be used; `code` is a stable upper-case word, the message says why."""

    def __init__(self, code, detail):
        super().__init__(detail)
        self.code = code


def decode(body, max_pixels=MAX_PIXELS, side=None):
    """Encoded bytes -> an upright RGB image. Raises BadImage, from the header alone where that suffices.

    With `side` (px) a JPEG may come at a half, a quarter or an eighth of its size, but with no side below that: the
    decoder then skips work that `to_pixels` would undo. Whoever compares pictures must give the same side.
    """
    return load(open_header(body, max_pixels), side)


def open_header(body, max_pixels=MAX_PIXELS):
    """The first half of `decode`: an image whose size is known and allowed, but whose pixels are not read yet."""
    try:
        image = Image.open(io.BytesIO(body), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(
            "TOO_MANY_PIXELS", f"the image has too many pixels; at most {max_pixels:,} are accepted"
        ) from error
    except UnidentifiedImageError as error:
        raise BadImage("FORMAT", f"not a readable image; accepted are {' and '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's parsers raise SyntaxError, struct.error, … on hostile headers
        raise BadImage("UNDECODABLE", "the image's header is damaged") from error
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height}"
        raise BadImage("TOO_MANY_PIXELS", f"the image has {size} pixels; at most {max_pixels:,} are accepted")
    return image


def load(image, side=None):
    """The second half of `decode`."""
    try:
        if side:
            image.draft(None, (side, side))
        image.load()
        return to_rgb(upright(image))
    except Exception as error:
        code = "TRUNCATED" if "truncated" in str(error) else "UNDECODABLE"
        raise BadImage(code, f"the image is damaged: {str(error)[:200]}") from error


def upright(image):
    with contextlib.suppress(Exception):  # broken EXIF is no reason to refuse a good picture
        ImageOps.exif_transpose(image, in_place=True)  # no copy of the many that are upright
    return image


def to_rgb(image):
    """Eight bits, three channels. Transparency shows a white page; 16-bit samples are scaled, not cut off."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(page, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def to_pixels(image, size):
    """The short side becomes `size`, the middle is cut out -> (size, size, 3) uint8."""
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def normalise(pixels, mean=MEAN, std=STD):
    """uint8 (N, H, W, 3) -> float (N, 3, H, W); a view, channels last in memory.

    A torch tensor stays one, on its device; a numpy array stays one. Both ways give the same numbers to the last bit.
    """
    if isinstance(pixels, np.ndarray):
        count, height, width, _ = pixels.shape
        # For a whole row at once: numpy's loop over three channels would take several times as long.
        mean, std = (np.tile(np.array(values, np.float32) * 255, width) for values in (mean, std))
        numbers = pixels.reshape(count, height, width * 3) - mean
        numbers /= std
        return numbers.reshape(pixels.shape).transpose(0, 3, 1, 2)
    import torch  # only here: see above

    mean, std = (torch.tensor(values, device=pixels.device) * 255 for values in (mean, std))
    return ((pixels - mean) / std).permute(0, 3, 1, 2)
