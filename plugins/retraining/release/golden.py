"""Which golden images are sent to an endpoint, and how they are packed into requests it can take.

The limits are those of a real-time request: SageMaker's for the body, ml/pictures/request.py's for what is in it
(tests/contract/test_picture_limits.py holds both sides together).
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from retraining.dataset.pictures.limits import MAX_BYTES, MAX_PIXELS

# SageMaker's hosting FAQ says 25 MB, its service model still 6,291,456 bytes; what fits in the smaller is safe in both.
SAFE_BODY_BYTES = 6_000_000
MAX_BODY_BYTES = MAX_BYTES
MAX_INSTANCES = 16


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A test image that the candidate answered rightly in batch."""

    entry: str
    """Its name in the test manifest."""
    label: str
    body: bytes

    @property
    def content_type(self) -> str:
        return "image/png" if self.entry.endswith(".png") else "image/jpeg"

    @property
    def as_text(self) -> str:
        return base64.b64encode(self.body).decode()

    @property
    def text_bytes(self) -> int:
        """Length of `as_text`, with what JSON puts around it."""
        return -(-len(self.body) // 3) * 4 + 16

    @property
    def pixels(self) -> int:
        """By the header alone."""
        from PIL import Image

        with Image.open(io.BytesIO(self.body), formats=("JPEG", "PNG")) as image:
            return image.width * image.height


def choose(expected: Mapping[str, str], fetch: Callable[[str], bytes]) -> list[Golden]:
    """One image for each class: the first whose request is safely small, or the smallest of them.

    `expected`: manifest entry → class, the surest first; several of a class are alternatives.
    """
    by_class: dict[str, list[str]] = {}
    for entry, label in expected.items():
        by_class.setdefault(label, []).append(entry)
    return [_smallest(label, entries, fetch) for label, entries in by_class.items()]


def _smallest(label: str, entries: Iterable[str], fetch: Callable[[str], bytes]) -> Golden:
    best: Golden | None = None
    for entry in entries:
        golden = Golden(entry=entry, label=label, body=fetch(entry))
        if best is None or len(golden.body) < len(best.body):
            best = golden
        if best.text_bytes <= SAFE_BODY_BYTES:
            break
    assert best is not None  # each class was named by an entry
    return best


def pack(
    images: Iterable[Golden],
    max_bytes: int = SAFE_BODY_BYTES,
    max_pixels: int = MAX_PIXELS,
    max_images: int = MAX_INSTANCES,
) -> list[list[Golden]]:
    """The images in as few requests as keep to the limits, in order; one that fits into none stands alone."""
    requests: list[list[Golden]] = []
    size = pixels = 0
    for image in images:
        size, pixels = size + image.text_bytes, pixels + image.pixels
        full = size > max_bytes or pixels > max_pixels or (requests and len(requests[-1]) == max_images)
        if not requests or full:
            requests.append([])
            size, pixels = image.text_bytes, image.pixels
        requests[-1].append(image)
    return requests


def instances(images: Iterable[Golden]) -> bytes:
    """The body of one request with several images."""
    return json.dumps({"instances": [image.as_text for image in images]}).encode()


def read_image(s3: Any, bucket: str, images_key: str, entry: str) -> bytes:
    """A test image by its name in the manifest."""
    return bytes(s3.get_object(Bucket=bucket, Key=f"{images_key}{entry}")["Body"].read())
