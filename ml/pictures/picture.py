"""An image -> the pixels a network sees.

The only home of the transforms, and of what an image may measure: training and inference share every step and every
limit, so a picture means the same to both, and one that is trained on can be served. Without torch, so that a server
whose model needs none does not wait for its import.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pictures import bmp, gif, jpeg, png, tiff, webp
from pictures.bad_image import BadImage
from pictures.jpeg import Jpeg
from pictures.limits import MAX_OTHER_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile
    from torch import Tensor

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, which most pretrained weights expect: see network.model.normalisation
STD = (0.229, 0.224, 0.225)
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of red, green and blue, of values from 0 to 1."""
MAX_PIXELS = 120_000_000  # a phone's 108 megapixels
MAX_BYTES = 25 * 2**20  # of a file: a real-time endpoint takes no more
# Scans times pixels: encoders write a progressive JPEG in about ten scans, but a few kilobytes can ask for thousands.
MAX_SCANNED = 12 * MAX_PIXELS
ORIENTATION = 0x0112
ORIENTATION_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
EXIF_HEAD = re.compile(rb"^(?:Exif\0\0){1,2}")
BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II": "little", b"MM": "big"}
SIZES = {1: 1, 3: 2, 4: 4}  # of whole numbers in EXIF, by kind
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BAND_PIXELS = 2**20  # that are converted at once


@dataclass(frozen=True)
class Format:
    """Of files with pictures, and who reads their header: a size is known then, and it is safe to decode."""

    name: str
    content_type: str
    signature: re.Pattern[bytes]
    read: Callable[[bytes], ImageFile]
    max_pixels: int = MAX_PIXELS


HEAD_BYTES = 18  # of a file, by which its format is told

# Of Pillow's forty decoders those of pictures that people have: each one more is attack surface. Not by Image.open,
# which warns of what is within MAX_PIXELS and looks for the other pictures of a file.
FORMATS: tuple[Format, ...] = (
    Format("JPEG", "image/jpeg", re.compile(rb"\xff\xd8\xff"), jpeg.read),
    Format("PNG", "image/png", re.compile(rb"\x89PNG\r\n\x1a\n"), png.read),
    Format("WebP", "image/webp", re.compile(rb"RIFF....WEBP", re.DOTALL), webp.read, MAX_OTHER_PIXELS),
    Format("GIF", "image/gif", re.compile(rb"GIF8[79]a"), gif.read, MAX_OTHER_PIXELS),
    Format("BMP", "image/bmp", bmp.SIGNATURE, bmp.read, MAX_OTHER_PIXELS),
    Format("TIFF", "image/tiff", re.compile(rb"II\*\0|MM\0\*"), tiff.read, MAX_OTHER_PIXELS),
)
ACCEPTED = f"{', '.join(form.name for form in FORMATS[:-1])} and {FORMATS[-1].name}"
CONTENT_TYPES = tuple(form.content_type for form in FORMATS)
# What others call them, and S3 whatever was not named: the bytes tell what they are.
ALIASES = ("image/jpg", "image/pjpeg", "image/x-png", "image/x-ms-bmp", "image/tif", "binary/octet-stream")


def decode(
    body: bytes, max_pixels: int = MAX_PIXELS, side: int | None = None, reserve: Callable[[int], object] | None = None
) -> Image.Image:
    """Encoded bytes -> an upright RGB image. Raises BadImage, from the header alone where that suffices.

    With `side` (px) a JPEG may come at a half, a quarter or an eighth of its size, but with no side below that: the
    decoder then skips work that `to_pixels` would undo. Whoever compares pictures must give the same side. `reserve` is
    told how many bytes of memory that will take, and may wait.
    """
    image = open_header(body, max_pixels)
    if reserve:
        reserve(decoding_bytes(image, side))
    return load(image, side)


def format_of(head: bytes) -> Format | None:
    """By a file's first HEAD_BYTES; None for one that is not read."""
    return next((form for form in FORMATS if form.signature.match(head)), None)


def open_header(body: bytes, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """The first half of `decode`: an image whose size is known and allowed, but whose pixels are not read yet."""
    if len(body) > MAX_BYTES:
        raise BadImage("TOO_MANY_BYTES", f"the image has {len(body):,} bytes; at most {MAX_BYTES:,} are accepted")
    found = format_of(body)
    if found is None:
        raise BadImage("FORMAT", f"not a readable image; accepted are {ACCEPTED}")
    max_pixels = min(max_pixels, found.max_pixels)
    try:
        image = found.read(body)
    except BadImage:
        raise
    except Exception as error:  # Pillow's parsers raise SyntaxError, struct.error, … on hostile headers
        raise BadImage("UNDECODABLE", "the image's header is damaged") from error
    pixels = image.width * image.height
    if pixels > max_pixels:
        size = f"{image.width} x {image.height}"
        raise BadImage("TOO_MANY_PIXELS", f"the image has {size} pixels; at most {max_pixels:,} are accepted")
    if isinstance(image, Jpeg) and image.scans * pixels > MAX_SCANNED:  # the decoder would work for minutes
        raise BadImage("TOO_MANY_SCANS", f"the image has {image.scans} scans of {pixels:,} pixels; save it anew")
    return image


def load(image: Image.Image, side: int | None = None) -> Image.Image:
    """The second half of `decode`."""
    try:
        if isinstance(image, Jpeg):
            image = jpeg.load(image, side)
        image.load()
        if isinstance(image, TiffImageFile):  # Pillow has turned it
            return to_rgb(tiff.plain(image))
        return to_rgb(upright(image))
    except BadImage:
        raise
    except Exception as error:
        code = "TRUNCATED" if "truncated" in str(error) else "UNDECODABLE"
        raise BadImage(code, f"the image is damaged: {str(error)[:200]}") from error


def decoding_bytes(image: Image.Image, side: int | None = None) -> int:
    """About how much memory `load` will take at its peak, for an image of `open_header`."""
    pixels, coefficients = image.width * image.height, 0
    if not isinstance(image, Jpeg | PngImageFile):
        return 16 * pixels
    if isinstance(image, Jpeg):
        if image.scans > 1:  # then the decoder keeps all numbers of all scans until the last
            parts = [across * down for _, across, down, _ in image.layer]
            coefficients = 2 * pixels * sum(parts) // max(1, *parts)
        shrink = min(image.width, image.height) // side if side else 1
        pixels //= next(scale for scale in (8, 4, 2, 1) if scale <= max(1, shrink)) ** 2
    each = 1 if image.mode in ("1", "L", "P") else 4
    twice = each if isinstance(image, Jpeg) and not image.is_streamed else 0  # it is decoded a second time
    return coefficients + pixels * (each + twice + (0 if image.mode == "RGB" and not see_through(image) else 4))


def upright(image: Image.Image) -> Image.Image:
    turn = TURNS.get(orientation(image) or 1)
    return image if turn is None else image.transpose(turn)


def orientation(image: Image.Image) -> int | None:
    """What EXIF says, else XMP; where they are broken, nothing: that is no reason to refuse a good picture.

    Read here, since Pillow goes through everything that EXIF names, and a few kilobytes can name gigabytes.
    """
    exif, xmp = image.info.get("exif"), image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
    with contextlib.suppress(ValueError):
        if exif is None:
            exif = bytes.fromhex("".join(image.info.get("Raw profile type exif", "").split("\n")[3:]))
        if (found := orientation_in(exif)) is not None:
            return found
    named = ORIENTATION_IN_XMP.search(xmp if isinstance(xmp, bytes) else xmp.encode())
    return int(named[1]) if named else None


def orientation_in(exif: bytes) -> int | None:
    """Of the first directory of EXIF, as far as it goes."""
    tiff, found = EXIF_HEAD.sub(b"", exif), None
    order = BYTE_ORDERS.get(tiff[:2])
    if order:
        at = int.from_bytes(tiff[4:8], order)
        count = int.from_bytes(tiff[at : at + 2], order)
        for entry in range(at + 2, min(at + 2 + 12 * count, len(tiff) - 11), 12):
            tag, kind = (int.from_bytes(tiff[place : place + 2], order) for place in (entry, entry + 2))
            if tag == ORIENTATION and kind in SIZES and int.from_bytes(tiff[entry + 4 : entry + 8], order) == 1:
                found = int.from_bytes(tiff[entry + 8 : entry + 8 + SIZES[kind]], order)
    return found


def see_through(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def to_rgb(image: Image.Image) -> Image.Image:
    """Eight bits, three channels. Transparency shows a white page; 16-bit samples are scaled, not cut off."""
    if image.mode.startswith("I"):
        return in_bands(image, eight_bits)
    if see_through(image):
        return in_bands(image, on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def in_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """An RGB image of what `convert` makes of bands of rows: steps between would take several times the memory."""
    result, rows = Image.new("RGB", image.size), max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        result.paste(convert(image.crop((0, top, image.width, min(top + rows, image.height)))), (0, top))
    return result


def eight_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def to_pixels(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The short side becomes `size`, the middle is cut out -> (size, size, 3) uint8."""
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


@overload
def normalise(
    pixels: NDArray[np.uint8], mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> NDArray[np.float32]: ...
@overload
def normalise(pixels: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor: ...
def normalise(
    pixels: NDArray[np.uint8] | Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> NDArray[np.float32] | Tensor:
    """uint8 (N, H, W, 3) -> float (N, 3, H, W); a view, channels last in memory.

    A torch tensor stays one, on its device; a numpy array stays one. Both ways give the same numbers to the last bit.
    """
    if isinstance(pixels, np.ndarray):
        count, height, width, _ = pixels.shape
        # For a whole row at once: numpy's loop over three channels would take several times as long.
        centre, spread = (np.tile(np.array(values, np.float32) * 255, width) for values in (mean, std))
        numbers = pixels.reshape(count, height, width * 3) - centre
        numbers /= spread
        return numbers.reshape(pixels.shape).transpose(0, 3, 1, 2)
    import torch  # only here: see above

    middle, width_of = (torch.tensor(values, device=pixels.device) * 255 for values in (mean, std))
    return ((pixels - middle) / width_of).permute(0, 3, 1, 2)
