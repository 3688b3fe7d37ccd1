"""Requests of many small things, one after the other: together they would raise the memory of the server for good."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

LARGE_BYTES = 2**16
"""SageMaker's own calls have some KB. PutLogEvents and PutMetricData have up to a megabyte; strangers send more."""


class LargeRequests:
    """What a megabyte of JSON becomes in Python is many times as large, and lives until its operation is done. A few
    small objects made meanwhile keep Python from giving that memory back, so the highest moment counts, and it is one
    request high instead of as many as there are threads."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self, headers: Mapping[str, str], body: bytes) -> AsyncIterator[None]:
        """Waits until no other large request is read or carried out; a small one never does. Whatever is compressed
        counts as large: CloudWatch's client compresses from 10 KB on."""
        if len(body) <= LARGE_BYTES and not headers.get("content-encoding"):
            yield
            return
        async with self._turn:
            yield
