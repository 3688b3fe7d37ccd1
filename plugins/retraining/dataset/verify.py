"""One file → its digest and format, or the reason why it must not be trained on.

Every image is decoded to the last pixel: Pillow's `verify()` accepts half a JPEG, and a training job that meets one
hours later costs money. Only Pillow's JPEG and PNG readers are used, because strangers' files choose the parser.
"""

from __future__ import annotations

import hashlib
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

from retraining.dataset.limits import MAX_BYTES, MAX_PIXELS, MAX_SIDE, MIN_SIDE

SIGNATURES = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png"}
OTHER_FORMATS = {b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"RIFF": "WebP", b"8BPS": "PSD"}


@dataclass(frozen=True, kw_only=True)
class VerifiedImage:
    """A file that decodes completely."""

    sha256: str
    extension: str
    """By its first bytes, whatever the file is called: jpg or png."""
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A file that is kept out. `code` is for counting, `detail` for the person who repairs the source."""

    code: str
    detail: str


def verify_image(path: Path) -> VerifiedImage | Rejected:
    """Read one local file completely and judge it. Never raises for what is in the file."""
    if path.is_symlink() or not path.is_file():
        return Rejected(code="NOT_REGULAR", detail="links, pipes and devices are not read")
    try:
        size = path.stat().st_size
        if size == 0:
            return Rejected(code="EMPTY", detail="the file has no bytes")
        if size > MAX_BYTES:
            return Rejected(code="TOO_BIG_BYTES", detail=f"{size} bytes, at most {MAX_BYTES}")
        body = path.read_bytes()
    except OSError as error:
        return Rejected(code="UNREADABLE", detail=str(error.strerror or error))
    extension = next((name for magic, name in SIGNATURES.items() if body.startswith(magic)), None)
    if extension is None:
        return _foreign(body)
    broken = _broken_png(body) if extension == "png" else None
    return (
        broken
        or _decode(body, extension)
        or VerifiedImage(sha256=hashlib.sha256(body).hexdigest(), extension=extension, size_bytes=size)
    )


def _foreign(body: bytes) -> Rejected:
    for magic, name in OTHER_FORMATS.items():
        if body.startswith(magic):
            return Rejected(code="FORMAT", detail=f"{name} is not read; convert it to JPEG or PNG")
    return Rejected(code="NOT_IMAGE", detail=f"neither JPEG nor PNG, it begins with {body[:12]!r}")


def _broken_png(body: bytes) -> Rejected | None:
    """None when every chunk of a PNG is there with the right checksum.

    Pillow is content once it has all pixels, and would take a file that lost its end.
    """
    at = 8
    while at + 12 <= len(body):
        size, kind = int.from_bytes(body[at : at + 4]), body[at + 4 : at + 8]
        end = at + 8 + size
        if end + 4 > len(body):
            break
        if zlib.crc32(body[at + 4 : end]) != int.from_bytes(body[end : end + 4]):
            return Rejected(code="CORRUPT", detail=f"the checksum of chunk {kind!r} is wrong")
        if kind == b"IEND":
            return None
        at = end + 4
    return Rejected(code="TRUNCATED", detail="the file ends before the picture does")


def _decode(body: bytes, extension: str) -> Rejected | None:
    """None when every pixel decodes."""
    import io

    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            with Image.open(io.BytesIO(body), formats=("JPEG", "PNG")) as image:
                width, height = image.size
                # From the header, before any pixel: a file of 20 kB may claim 169 million of them.
                if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
                    return Rejected(code="TOO_LARGE", detail=f"{width}x{height} pixels, at most {MAX_PIXELS} in all")
                if min(width, height) < MIN_SIDE:
                    return Rejected(code="TOO_SMALL", detail=f"{width}x{height} pixels, at least {MIN_SIDE} each side")
                if image.mode.startswith("I"):
                    # Pillow's conversion to 8 bits turns nearly every 16-bit pixel white, without a word.
                    return Rejected(code="FORMAT", detail=f"16-bit pixels (mode {image.mode}); convert to 8 bits")
                if (frames := getattr(image, "n_frames", 1)) > 1:
                    return Rejected(code="ANIMATED", detail=f"{frames} frames; keep one")
                image.load()
                if extension == "jpg" and _ends_early(image, body):
                    return Rejected(code="JPEG_WARN", detail="the picture ends early; its lower part is one colour")
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            return Rejected(code="TOO_LARGE", detail=str(error))
        except Exception as error:  # Pillow's decoders raise nearly everything for broken files
            truncated = "truncated" in str(error).lower() or "premature" in str(error).lower()
            return Rejected(code="TRUNCATED" if truncated else "CORRUPT", detail=f"{type(error).__name__}: {error}")
    return None


def _ends_early(image: object, body: bytes) -> bool:
    """A cut JPEG that still ends with its end marker decodes without an error, its missing rows grey (128).

    libjpeg only prints a warning, so the grey itself is the evidence: at least the last tenth of the rows is exactly
    128 in every channel, which a camera does not produce.
    """
    from PIL import Image

    assert isinstance(image, Image.Image)
    rows = max(8, image.height // 10)
    if image.height <= rows:
        return False
    bottom = image.crop((0, image.height - rows, image.width, image.height)).convert("L")
    return bottom.getextrema() == (128, 128)
