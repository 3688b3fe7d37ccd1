"""The answers of a batch transform job, read back from S3."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from retraining.promotion.scores import ScoreError
from retraining.s3.listing import list_keys

# As many connections as a boto3 client keeps. S3 answers in tens of milliseconds: a thousand answers take seconds.
THREADS = 10


def read_answers(s3: Any, output_uri: str) -> dict[str, list[float]]:
    """Test image, as "<class>/<file>", → the probabilities the model gave, in the model's class order."""
    bucket, _, prefix = output_uri.removeprefix("s3://").partition("/")
    keys = [key for key in list_keys(s3, bucket, f"{prefix.rstrip('/')}/") if key.endswith(".out")]

    def read(key: str) -> tuple[str, list[float]]:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        try:
            probabilities = json.loads(body)["probabilities"]
        except (ValueError, KeyError, TypeError):
            raise ScoreError(f"s3://{bucket}/{key} holds no probabilities but {body[:200]!r}") from None
        return key.removeprefix(f"{prefix.rstrip('/')}/").removesuffix(".out"), probabilities

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(pool.map(read, keys))
