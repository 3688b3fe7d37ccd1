"""labels.json out of a training job's output.tar.gz, read as it comes: tensors that lie before it are passed over."""

from __future__ import annotations

import gzip
import json
import lzma
import tarfile
import zlib
from typing import Any

from botocore.exceptions import ClientError

from retraining.dataset.labels.suspects import UnreadableSuspects
from retraining.s3.documents import MISSING

NAME = "labels.json"
MAX_DOCUMENT = 2**20
MAX_PASSED = 16 * 2**30
"""Bytes, unpacked, before it."""
MAX_FILES = 200_000


def labels_document(s3: Any, bucket: str, key: str) -> Any:
    """None where the training left none; UnreadableSuspects where what it left cannot be read."""
    try:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"]
    except ClientError as error:
        if error.response["Error"]["Code"] in MISSING:
            return None
        raise
    where = f"s3://{bucket}/{key}"
    try:
        with tarfile.open(fileobj=body, mode="r|gz") as tar:
            for number, member in enumerate(tar):
                if member.isfile() and member.name.removeprefix("./") == NAME:
                    content = tar.extractfile(member)
                    assert content is not None
                    return _parsed(content.read(MAX_DOCUMENT + 1), where)
                if member.offset_data > MAX_PASSED or number > MAX_FILES:
                    raise UnreadableSuspects(f"{where} has no {NAME} among its first {number} files")
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RecursionError) as error:
        raise UnreadableSuspects(f"{where} cannot be read: {type(error).__name__}: {error}") from error
    finally:
        body.close()
    return None


def _parsed(content: bytes, where: str) -> Any:
    if len(content) > MAX_DOCUMENT:
        raise UnreadableSuspects(f"{NAME} in {where} has more than {MAX_DOCUMENT:,} bytes")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableSuspects(f"{NAME} in {where} is no JSON: {error}") from error
