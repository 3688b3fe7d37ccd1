"""How many requests for objects go side by side: as many as the client keeps connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.config import Config

MANY = 32
"""S3 answers in tens of milliseconds and a request takes one of ours, so that more gain nothing (bench/README.md)."""


def keeping_many() -> Config:
    """For a client of S3 that this package makes."""
    from botocore.config import Config  # most of botocore, which no DAG file should wait for

    return Config(max_pool_connections=MANY)


def connections(s3: Any) -> int:
    """10 where nobody asked for more, as boto3 makes clients."""
    return int(s3.meta.config.max_pool_connections)
