"""The bytes of a model artifact: what was scored is what is registered, and what serves.

SageMaker reads model.tar.gz from S3 by its address, each time that a job or an instance starts. Whoever may write
there between two of these moments would serve a model that nobody compared, hence a digest of its bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from retraining.identity import require_own
from retraining.s3.documents import MISSING

CHUNK_BYTES = 2**20


class ArtifactChanged(ValueError):
    """A model's artifact is not, or no longer, the one that was scored."""


def measure(s3: Any, uri: str) -> dict[str, Any]:
    """{"uri", "sha256" in hexadecimal, "size_bytes"} of the object; ArtifactChanged where there is none.

    Read in pieces of a MiB: an artifact may be larger than a worker's memory.
    """
    address = urlsplit(uri)
    digest, size = hashlib.sha256(), 0
    try:
        body = s3.get_object(Bucket=address.netloc, Key=address.path.lstrip("/"))["Body"]
    except ClientError as error:
        if error.response["Error"]["Code"] in MISSING:
            raise ArtifactChanged(f"{uri}, a model artifact, does not exist any more") from error
        raise
    for chunk in body.iter_chunks(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return {"uri": uri, "sha256": digest.hexdigest(), "size_bytes": size}


def require_unchanged(s3: Any, known: Mapping[str, Any], then: str) -> None:
    """ArtifactChanged unless the object still has the bytes of `known`, which `measure` returned then (words)."""
    now = measure(s3, known["uri"])
    if now != known:
        raise ArtifactChanged(
            f"{known['uri']}, a model artifact, was replaced: its {known['size_bytes']} bytes had the SHA-256 "
            f"{known['sha256'][:16]}… {then}, the {now['size_bytes']} bytes there now have {now['sha256'][:16]}…"
        )


def require_champions(s3: Any, champion: Mapping[str, Any] | None) -> None:
    """ArtifactChanged where what a champion (champion.json) is made of is gone or was replaced since its promotion.

    One that an earlier version of this package promoted has no digest, and passes.
    """
    if champion and champion.get("artifact"):
        require_unchanged(s3, champion["artifact"], f"when run {champion['run_name']} promoted it")


def require_own_model(sagemaker: Any, request: Mapping[str, Any]) -> None:
    """NameTaken when the Model was deleted and made again from something else, as its name alone would not tell."""
    name = request["ModelName"]
    require_own("model", name, request, sagemaker.describe_model(ModelName=name))
