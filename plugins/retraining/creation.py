"""Things of SageMaker that have a name: made, or deleted, once, whichever attempt does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from retraining.job_kinds import already_exists, is_missing


def create_once(create: Any, request: Mapping[str, Any]) -> bool:
    """Whether this call created the thing; False when its name was taken already, as by an earlier attempt of ours."""
    try:
        create(**request)
    except ClientError as error:
        if already_exists(error):
            return False
        raise
    return True


def delete_once(delete: Any, request: Mapping[str, Any]) -> None:
    """Gone afterwards, also where it was gone before."""
    try:
        delete(**request)
    except ClientError as error:
        if not is_missing(error):
            raise
