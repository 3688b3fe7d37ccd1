"""Images that clients sent to an endpoint, read back from what its data capture keeps in S3, the newest first.

Bounded: some requests of an endpoint that has millions a day are read by a worker that has little memory. Format: the
developer guide's "Capture data from real-time endpoint", JSON lines in year/month/day/hour folders.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from retraining.dataset.pictures.limits import MAX_BYTES
from retraining.dataset.pictures.verify import extension_of
from retraining.s3.listing import list_folders, list_keys

DATE_FOLDERS = 4  # year, month, day, hour
# A request of 25 MB in base64, and its answer.
MAX_LINE, MAX_READ = 64 * 1024**2, 1024**3


@dataclass(kw_only=True)
class Captured:
    """The requests below `prefix` in the bucket, as a walk over them that tells what it left out."""

    s3: Any
    bucket: str
    prefix: str
    left_out: int = 0
    """Requests that hold no picture which a batch transform job could send: addresses, arrays, lists of them."""
    _read: int = field(init=False, default=0)
    _seen: set[str] = field(init=False, default_factory=set)

    def images(self) -> Iterator[tuple[str, bytes]]:
        """Name by content, and bytes, of each picture once; a GiB of requests is looked through at most."""
        for key in self._newest(self.prefix, DATE_FOLDERS):
            for line in self._lines(key):
                try:
                    found = pictures(line)
                except (ValueError, LookupError, TypeError, AttributeError):
                    found = []
                self.left_out += not found
                for body in found:
                    name = _name(body)
                    if name not in self._seen:
                        self._seen.add(name)
                        yield name, body
            if self._read >= MAX_READ:
                return

    def _newest(self, prefix: str, depth: int) -> Iterator[str]:
        if depth == 0:
            yield from sorted(list_keys(self.s3, self.bucket, prefix), reverse=True)
            return
        for folder in sorted(list_folders(self.s3, self.bucket, prefix), reverse=True):
            yield from self._newest(folder, depth - 1)

    def _lines(self, key: str) -> Iterator[bytes]:
        """Up to the first that is too long to be one, or what may still be read."""
        line = b""
        for chunk in self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].iter_chunks(1024**2):
            self._read += len(chunk)
            *whole, rest = chunk.split(b"\n")
            for end in whole:
                yield line + end
                line = b""
            line += rest
            if len(line) > MAX_LINE or self._read >= MAX_READ:
                return
        if line:
            yield line


def pictures(line: bytes) -> list[bytes]:
    """The PNG and JPEG files of one captured request. Raises ValueError, LookupError or TypeError for what is none."""
    sent = json.loads(line)["captureData"]["endpointInput"]
    body = base64.b64decode(sent["data"]) if sent["encoding"] == "BASE64" else sent["data"].encode()
    if not sent["observedContentType"].startswith("application/json"):
        return [body] if _is_picture(body) else []
    asked = json.loads(body)
    texts = asked["instances"] if "instances" in asked else [asked["image"]]
    try:
        found = [base64.b64decode(text, validate=True) for text in texts]
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from None
    return [body for body in found if _is_picture(body)]


def _is_picture(body: bytes) -> bool:
    return extension_of(body) is not None and len(body) <= MAX_BYTES


def _name(body: bytes) -> str:
    return f"{hashlib.sha256(body).hexdigest()[:20]}.{extension_of(body)}"
