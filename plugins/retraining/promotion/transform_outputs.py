"""The answers of a batch transform job, read back from S3."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from retraining.promotion.scores import ScoreError
from retraining.s3.connections import connections
from retraining.s3.listing import list_keys


def read_answers(s3: Any, output_uri: str, entries: Iterable[str] | None = None) -> dict[str, list[float]]:
    """Test image, as "<class>/<file>", → the probabilities the model gave, in the model's class order.

    Of all images, or of the named `entries` of the manifest.
    """
    bucket, _, prefix = output_uri.removeprefix("s3://").partition("/")
    if entries is None:
        keys = [key for key in list_keys(s3, bucket, f"{prefix.rstrip('/')}/") if key.endswith(".out")]
    else:
        keys = [f"{prefix.rstrip('/')}/{entry}.out" for entry in entries]

    def read(key: str) -> tuple[str, list[float]]:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        try:
            probabilities = json.loads(body)["probabilities"]
        except (ValueError, KeyError, TypeError):
            raise ScoreError(f"s3://{bucket}/{key} holds no probabilities but {body[:200]!r}") from None
        return key.removeprefix(f"{prefix.rstrip('/')}/").removesuffix(".out"), probabilities

    with ThreadPoolExecutor(connections(s3)) as pool:
        return dict(pool.map(read, keys))
