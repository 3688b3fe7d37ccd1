"""Things of SageMaker that have a name: made once, whichever attempt does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import already_exists


def create_once(create: Any, request: Mapping[str, Any]) -> bool:
    """Whether this call created the thing; False when its name was taken already, as by an earlier attempt of ours."""
    try:
        create(**request)
    except ClientError as error:
        if already_exists(error.response["Error"]["Code"], error.response["Error"]["Message"]):
            return False
        raise
    return True
