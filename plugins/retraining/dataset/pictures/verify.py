"""One file → its digest and format, or the reason why it must not be trained on.

Only pixels decide: every picture is decoded to its last one, because a training job that meets half a picture hours
later costs money; and what lies around them (EXIF, profiles, texts, a second picture), odd or broken, is not read.
Strangers' files choose the parser: Pillow's JPEG and PNG readers, and the four of `convert`, never its other forty.
What is no JPEG or PNG is given to training as a PNG.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

from retraining.dataset.pictures.convert import RULES, convert, format_of
from retraining.dataset.pictures.jpeg import first_picture
from retraining.dataset.pictures.limits import MAX_BYTES, MAX_PIXELS, MAX_SCANNED, MAX_SIDE, MIN_SIDE
from retraining.dataset.pictures.orientation import orientation_of
from retraining.dataset.pictures.png import SIGNATURE, picture
from retraining.dataset.pictures.thumb import thumb_of
from retraining.dataset.pictures.verdict import Damaged, Original, Rejected, VerifiedImage

__all__ = ["Rejected", "VerifiedImage", "extension_of", "take_turns", "verify_image"]

SIGNATURES = {b"\xff\xd8\xff": "jpg", SIGNATURE: "png"}
OTHER_FORMATS = {
    b"8BPS": "PSD", b"\0\0\0\x0cJXL ": "JPEG XL", b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000", b"II+\0": "BigTIFF", b"MM\0+": "BigTIFF",
}  # fmt: skip
BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF"}

NETPBM = re.compile(rb"P[1-6]\s+[#\d]")
SVG = re.compile(rb"\s*<(?:svg|(?:\?xml|!--|!doctype svg).{0,2000}<svg)", re.IGNORECASE | re.DOTALL)
HOW = {
    "DICOM": "dcmj2pnm --write-png 1.dcm 1.png (DCMTK), with the window that doctors look through",
    "PSD": "magick '1.psd[0]' 1.png",
    "SVG": "rsvg-convert --width 512 --output 1.png 1.svg",
}
ELSE = "mogrify -format png <its files> (ImageMagick)"
"""How a picture that is not read becomes one that is."""

GIT_LFS = b"version https://git-lfs.github.com/"
"""What stands in a clone until its files are fetched."""
LARGE_PIXELS = 25_000_000
"""From here on a picture is decoded while no other large one is: 120 megapixels can take half a gigabyte."""
_large: AbstractContextManager[object] = threading.BoundedSemaphore(1)


def take_turns(turn: AbstractContextManager[object]) -> None:
    """Decode large pictures within `turn`: processes that verify together have one between them."""
    global _large
    _large = turn


def verify_image(path: Path, converted: Path | None = None) -> VerifiedImage | Rejected:
    """Read one local file completely and judge it. Never raises for what is in the file. Threads may share it.

    What is neither JPEG nor PNG is written to the folder `converted`, under its digest, if there is one.
    """
    try:
        if path.is_symlink() or not path.is_file():
            return Rejected(code="NOT_REGULAR", detail="links, pipes and devices are not read")
        size = path.stat().st_size
        if size == 0:
            return Rejected(code="EMPTY", detail="the file has no bytes")
        if size > MAX_BYTES:
            return Rejected(code="TOO_BIG_BYTES", detail=f"{size} bytes, at most {MAX_BYTES}")
        body = path.read_bytes()
    except OSError as error:
        return Rejected(code="UNREADABLE", detail=str(error.strerror or error))
    found = _judged(body, converted)
    return replace(found, sha256=_digest(body)) if isinstance(found, Rejected) else found


def extension_of(body: bytes) -> str | None:
    """jpg or png, by the first bytes of a file; None for every other."""
    return next((name for magic, name in SIGNATURES.items() if body.startswith(magic)), None)


def _judged(body: bytes, converted: Path | None) -> VerifiedImage | Rejected:
    try:
        return _picture(body, converted)
    except Damaged as error:
        return error.rejected
    except MemoryError:
        return Rejected(code="TOO_MUCH_MEMORY", detail="its decoder takes more memory than it may; save it anew")
    except OSError as error:
        if error.errno is not None:  # of the disk, not of a decoder: no fault of the picture
            raise
        return _broken(error)
    except Exception as error:  # Pillow's decoders raise nearly everything for broken files
        return _broken(error)


def _picture(body: bytes, converted: Path | None) -> VerifiedImage | Rejected:
    extension = extension_of(body)
    if extension:
        frames, thumb = _require_png(body) if extension == "png" else (1, _require_jpeg(body))
        return VerifiedImage(
            sha256=_digest(body), extension=extension, size_bytes=len(body), frames=frames, thumb=thumb
        )
    kind = format_of(body)
    if kind is None:
        return _foreign(body)
    with ExitStack() as held:
        made = convert(body, lambda width, height: held.enter_context(_room_for(width, height)))
    digest = _digest(made.body)
    if converted is not None:
        (converted / digest).write_bytes(made.body)
    original = Original(format=kind, sha256=_digest(body), rules=RULES)
    return VerifiedImage(
        sha256=digest,
        extension="png",
        size_bytes=len(made.body),
        frames=made.frames,
        original=original,
        thumb=made.thumb,
    )


def _broken(error: Exception) -> Rejected:
    truncated = "truncated" in str(error).lower()
    return Rejected(code="TRUNCATED" if truncated else "CORRUPT", detail=f"{type(error).__name__}: {error}")


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _foreign(body: bytes) -> Rejected:
    if body.startswith(GIT_LFS):
        return Rejected(code="NOT_IMAGE", detail="Git LFS keeps the picture elsewhere; fetch it: git lfs pull")
    name = BRANDS.get(body[8:12]) if body[4:8] == b"ftyp" else None
    name = "DICOM" if body[128:132] == b"DICM" else name
    name = "Netpbm (PBM, PGM, PPM)" if NETPBM.match(body) else name
    name = "SVG" if SVG.match(body.removeprefix(b"\xef\xbb\xbf")) else name
    name = name or next((name for magic, name in OTHER_FORMATS.items() if body.startswith(magic)), None)
    if name:
        return Rejected(code="FORMAT", detail=f"{name} is not read; convert it to PNG: {HOW.get(name, ELSE)}")
    return Rejected(code="NOT_IMAGE", detail=f"no JPEG, PNG, WebP, GIF, BMP or TIFF: it begins with {body[:12]!r}")


def _require_jpeg(body: bytes) -> str:
    """Raises unless every pixel is there; returns its thumb."""
    from PIL.JpegImagePlugin import JpegImageFile

    found = first_picture(body)
    if found.arithmetic:
        # Pillow reads the small ones only, and nobody can tell whether one was cut.
        raise Damaged("FORMAT", "an arithmetic-coded JPEG, which few programs read; convert it to an ordinary one")
    digests, thumb = set(), ""
    for ending in found.endings():
        # The class itself: Image.open would look for other pictures in the file, and for reasons to warn.
        with JpegImageFile(io.BytesIO(ending)) as image, _room_for(*image.size):
            if found.scans * image.width * image.height > MAX_SCANNED:
                raise Damaged(
                    "TOO_MANY_SCANS", f"{found.scans} scans of {image.width}x{image.height} pixels; save it anew"
                )
            # Half the size still reads each bit of it.
            image.draft(None, (-(-image.width // 2), -(-image.height // 2)))
            digests.add(hashlib.sha256(image.tobytes()).digest())
            thumb = thumb or thumb_of(image, orientation_of(found.info))
    if len(digests) > 1:
        raise Damaged("TRUNCATED", "the picture ends early; its last part is made up by the decoder")
    return thumb


def _require_png(body: bytes) -> tuple[int, str]:
    """Raises unless every pixel is there; returns how many frames it has, and its thumb."""
    from PIL.PngImagePlugin import PngImageFile

    found = picture(body)
    with PngImageFile(io.BytesIO(found.body)) as image, _room_for(*image.size):
        found.require_pixels()
        image.load()
        return found.frames, thumb_of(image, orientation_of(found.info))


def _room_for(width: int, height: int) -> AbstractContextManager[object]:
    """What to decode a picture of this size within; by its header, for a file of 20 kB may claim 169 million pixels."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise Damaged(
            "TOO_LARGE", f"{width}x{height} pixels, at most {MAX_PIXELS:,} in all and {MAX_SIDE:,} on each side"
        )
    if min(width, height) < MIN_SIDE:
        raise Damaged("TOO_SMALL", f"{width}x{height} pixels, at least {MIN_SIDE} on each side")
    return _large if width * height > LARGE_PIXELS else nullcontext()
