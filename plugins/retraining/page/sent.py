"""Pictures that a person sends from a page: bounded as they arrive, and verified as a sync verifies a source's.

They lie in a folder of their own while they are verified, and nowhere afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fastapi import Request

from retraining.dataset.pictures.pool import verify_files
from retraining.dataset.pictures.verdict import Rejected, VerifiedImage
from retraining.dataset.pictures.worker import LIMITS
from retraining.dataset.source_error import SourceError
from retraining.release.golden import MAX_BODY_BYTES, MAX_INSTANCES, SAFE_BODY_BYTES, Golden

ARRIVES_S = 30.0
"""Seconds that a body may take."""
QUICK = replace(LIMITS, cpu_s=20)
"""Somebody waits: a camera's picture takes under a second, one of 108 megapixels about three."""


class Refusal(ValueError):
    """What was sent cannot be asked about; in words, with the HTTP status that fits."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def body_of(request: Request, most: int) -> bytes:
    """The request's body; Refusal where it has more than `most` bytes, or takes too long."""
    too_much = Refusal(413, f"That has more than {most:,} bytes, which is more than one request to an endpoint holds.")
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > most:
        raise too_much
    body = bytearray()
    try:
        async with asyncio.timeout(ARRIVES_S):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise too_much
    except TimeoutError:
        raise Refusal(408, f"It did not arrive within {ARRIVES_S:.0f} s. Send it again.") from None
    return bytes(body)


def limit_of(several: bool) -> int:
    return SAFE_BODY_BYTES if several else MAX_BODY_BYTES


def pictures_of(body: bytes, several: bool) -> list[Golden]:
    """As the smoke test sends them; Refusal where one is no usable picture. `several`: as JSON, {"instances": […]}."""
    bodies = _instances(body) if several else [body]
    with tempfile.TemporaryDirectory(prefix="retraining-try-") as folder:
        scratch = Path(folder)
        paths = [scratch / f"sent-{place}" for place in range(len(bodies))]
        for path, content in zip(paths, bodies, strict=True):
            path.write_bytes(content)
        try:
            found = [verdict for verdict, _ in verify_files(paths, scratch, QUICK)]
        except SourceError as error:
            raise Refusal(422, str(error)) from None
        return [
            _golden(verdict, content, scratch, place)
            for place, (verdict, content) in enumerate(zip(found, bodies, strict=True))
        ]


def _golden(verdict: VerifiedImage | Rejected, body: bytes, scratch: Path, place: int) -> Golden:
    if isinstance(verdict, Rejected):
        raise Refusal(422, f"That is no picture a model could be asked about. {verdict.code}: {verdict.detail}.")
    content = (scratch / verdict.sha256).read_bytes() if verdict.original else body
    if len(content) > MAX_BODY_BYTES:
        raise Refusal(413, f"As a PNG it has {len(content):,} bytes; a request holds {MAX_BODY_BYTES:,}. Send a JPEG.")
    return Golden(entry=f"sent-{place}.{verdict.extension}", label="", body=content)


def _instances(body: bytes) -> Sequence[bytes]:
    wrong = Refusal(400, f'As JSON, {{"instances": […]}} has 1 to {MAX_INSTANCES} pictures in base64.')
    try:
        given = json.loads(body)["instances"]
        if not isinstance(given, list) or not 1 <= len(given) <= MAX_INSTANCES:
            raise wrong
        return [base64.b64decode(text, validate=True) for text in given]
    except (KeyError, TypeError, RecursionError, UnicodeError, json.JSONDecodeError, binascii.Error):
        raise wrong from None
