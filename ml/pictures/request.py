"""What a caller sent, read: bytes and a content type -> images (see inference.py for what may be sent).

Whatever is wrong with it ends in a RequestError, which has a status of the 4xx kind, never in another exception.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image, ImageFile

from pictures import picture, remote
from pictures.bad_image import BadImage
from pictures.memory_gate import Full, MemoryGate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from numpy.typing import NDArray

Item = TypeVar("Item")
Result = TypeVar("Result")


class PlainError(Exception):
    def __init__(self, status_code: int, message: str, phrase: str) -> None:
        super().__init__(message)
        self.status_code, self.message, self.phrase = status_code, message, phrase


if TYPE_CHECKING:
    ToolkitError = PlainError
else:
    try:  # in AWS's containers only a subclass of this chooses its own HTTP status
        from sagemaker_inference.errors import BaseInferenceToolkitError as ToolkitError
    except ImportError:
        ToolkitError = PlainError


IMAGE_TYPES = (*picture.CONTENT_TYPES, "application/x-image", "application/octet-stream")
MAX_PIXELS = picture.MAX_PIXELS  # of one request: one picture as large as can be, or several of that size together
DECODING = MemoryGate(2**30)  # of all requests; a picture of MAX_PIXELS may take all of it, a photograph a few MB
MAX_INSTANCES = 16
MAX_NORMALISED = 1000  # pictures lie within ±3; with huge numbers a caller could make a good model look broken
NPY = "application/x-npy"
TOO_LARGE = tuple(f"TOO_MANY_{what}" for what in ("BYTES", "PIXELS", "SCANS", "SEGMENTS", "CHUNKS"))
STATUS = {"FORMAT": 415, "TRUNCATED": 422, "UNDECODABLE": 422} | dict.fromkeys(TOO_LARGE, 413)


class RequestError(ToolkitError):
    """The request cannot be answered: an HTTP status, a stable upper-case code, and what to do about it."""

    def __init__(self, status_code: int, code: str, detail: str) -> None:
        super().__init__(status_code, json.dumps({"error": code, "detail": detail}), code)
        self.code, self.detail = code, detail


@dataclass(frozen=True)
class Request:
    """The images of one request. Decoding is input_fn's work, since servers run it while the model is busy."""

    images: Sequence[bytes | NDArray[np.uint8]] | NDArray[np.float32]
    """Encoded bytes, or uint8 pictures (H, W, 3); or one array of normalised numbers (N, 3, side, side)."""
    is_list: bool
    """Whether the caller sent a list, and gets one."""
    pixels: NDArray[np.uint8] | None = None
    """The images as the network sees them, uint8 (N, side, side, 3)."""

    def decoded(self, side: int) -> Request:
        """The same with `pixels` of that side. Raises RequestError."""
        images, ready = self.images, self.pixels is not None and self.pixels.shape[1] == side
        return self if isinstance(images, np.ndarray) or ready else replace(self, pixels=decode_all(images, side))


def read_request(body: bytes | bytearray, content_type: str | None) -> Request:
    kind = (content_type or "").split(";")[0].strip().lower()
    if kind in IMAGE_TYPES or kind in picture.ALIASES:
        return Request([bytes(body)], False)
    if kind == "application/json":
        return read_json(body)
    if kind == NPY:
        return read_array(body)
    accepted = ", ".join(("application/json", NPY, *IMAGE_TYPES))
    raise RequestError(415, "CONTENT_TYPE", f"content type {kind[:80]!r} is not accepted; send one of {accepted}")


def read_array(body: bytes | bytearray) -> Request:
    """The Request in an .npy body."""
    try:
        array = np.load(io.BytesIO(bytes(body)), allow_pickle=False)
    except Exception as error:  # numpy raises nearly everything for strange headers
        raise RequestError(400, "NPY", f"the body is no .npy array: {str(error)[:200]}") from error
    if not isinstance(array, np.ndarray) or array.ndim not in (3, 4) or array.size == 0:
        shape = list(getattr(array, "shape", ()))
        raise RequestError(400, "ARRAY_SHAPE", f"an array must be (H, W, 3), (N, H, W, 3) or (N, 3, H, W), not {shape}")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # the other order has the same numbers
    several = array.ndim == 4
    batch = array if several else array[None]
    if len(batch) > MAX_INSTANCES:
        raise RequestError(400, "INSTANCES", f"{len(batch)} images; a request holds 1 to {MAX_INSTANCES}")
    if array.dtype == np.uint8 and batch.shape[-1] == 3:
        if batch.size // 3 > MAX_PIXELS:
            raise RequestError(413, "TOO_MANY_PIXELS", f"a request may hold at most {MAX_PIXELS:,} pixels")
        return Request(list(batch), several)
    if array.dtype in (np.float16, np.float32, np.float64) and batch.shape[1] == 3:
        if not np.abs(batch).max() <= MAX_NORMALISED:  # also where it is not a number
            raise RequestError(400, "ARRAY_VALUES", f"normalised numbers lie within ±{MAX_NORMALISED}, NaN is none")
        return Request(np.ascontiguousarray(batch, dtype=np.float32), several)
    raise RequestError(
        400,
        "ARRAY_SHAPE",
        f"uint8 arrays are (…, H, W, 3), float ones (N, 3, H, W); not {array.dtype} {list(array.shape)}",
    )


def normalised_already(images: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    if images.shape[1:] != (3, side, side):
        wanted = f"(N, 3, {side}, {side})"
        raise RequestError(
            400, "ARRAY_SHAPE", f"normalised images of this model are {wanted}, not {list(images.shape)}"
        )
    return images


def decode_all(images: Sequence[bytes | NDArray[np.uint8]], side: int) -> NDArray[np.uint8]:
    """Encoded images, or pictures, -> uint8 (N, side, side, 3), within one budget of pixels, and scans of them."""
    opened, budget, scanned = [], MAX_PIXELS, picture.MAX_SCANNED
    for position, image in enumerate(images):
        if isinstance(image, np.ndarray):
            opened.append(Image.fromarray(image))
            continue
        if not image:
            raise RequestError(400, "EMPTY", f"image {position} is empty")
        opened.append(explained(position, picture.open_header, image))
        pixels = opened[-1].width * opened[-1].height
        budget, scanned = budget - pixels, scanned - pixels * getattr(opened[-1], "scans", 1)
        if scanned < 0:
            detail = f"image {position}: with it the request has too many scans of its pixels; send it in another one"
            raise RequestError(413, "TOO_MANY_SCANS", detail)
        if budget < 0:
            raise RequestError(
                413,
                "TOO_MANY_PIXELS",
                f"image {position}: with it the request has more than {MAX_PIXELS:,} pixels; send it in another one",
            )
    return np.stack(each(lambda entry: explained(entry[0], pixels_of, entry[1], side), list(enumerate(opened))))


def pixels_of(image: Image.Image, side: int) -> NDArray[np.uint8]:
    if not isinstance(image, ImageFile.ImageFile):  # of an array: it is decoded already
        return picture.to_pixels(picture.load(image), side)
    try:
        with DECODING.room(picture.decoding_bytes(image, side)):
            return picture.to_pixels(picture.load(image, side), side)
    except Full:
        raise RequestError(429, "BUSY", "other large pictures are being decoded; try again") from None


def explained(position: int, step: Callable[..., Result], *arguments: object) -> Result:
    """A step of decoding; a bad image becomes a bad request that names its place in it."""
    try:
        return step(*arguments)
    except BadImage as error:
        raise RequestError(STATUS[error.code], error.code, f"image {position}: {error}") from error


def each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """A list of results; where there are several, on several cores, since Pillow decodes without Python's lock."""
    if len(items) == 1:
        return [function(items[0])]
    with ThreadPoolExecutor(min(len(items), os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def read_json(body: bytes | bytearray | str) -> Request:
    """The Request in a JSON body."""
    document = parse_json(body)
    keys = set(document) if isinstance(document, dict) else set()
    if keys == {"image"}:
        return Request([decode_base64(document["image"])], False)
    if keys == {"instances"} and isinstance(document["instances"], list):
        texts = document["instances"]
        if not 1 <= len(texts) <= MAX_INSTANCES:
            raise RequestError(400, "INSTANCES", f"{len(texts)} instances; a request holds 1 to {MAX_INSTANCES}")
        return Request([decode_base64(text) for text in texts], True)
    if keys == {"url"}:
        return Request([fetch(document["url"])], False)
    shapes = '{"image": "<base64>"}, {"instances": ["<base64>", …]} or {"url": "https://…"}'
    raise RequestError(400, "JSON_SHAPE", f"expected {shapes}, and nothing beside it")


def fetch(url: object) -> bytes:
    try:
        return remote.fetch(url)
    except remote.Disabled as error:
        raise RequestError(400, "URL_DISABLED", str(error)) from error
    except remote.Refused as error:
        raise RequestError(400, "URL_REFUSED", str(error)) from error


def parse_json(body: bytes | bytearray | str) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name stands twice in one object")
        return dict(pairs)

    try:
        # Bytes may be UTF-8, -16 or -32, and begin with a mark that says so: Windows writes one. Servers leave it in
        # the text that they make of them.
        text = body.removeprefix("\ufeff") if isinstance(body, str) else bytes(body)
        return json.loads(text, parse_constant=refuse, object_pairs_hook=without_doubles)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "JSON", f"the body is not valid JSON: {str(error)[:200]}") from error


def decode_base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise RequestError(400, "BASE64", f"an image must be base64 text, not {type(text).__name__}")
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise RequestError(400, "BASE64", f"not plain base64 ({error}); no data: prefix, no line breaks") from error
