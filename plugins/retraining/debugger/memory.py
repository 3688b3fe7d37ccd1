"""debugger-mode.json in the bucket: SageMaker has refused this account its Debugger, and no run need ask in vain again.

It is deleted by hand when the account may have Debugger after all. Reading and writing it never fail a run.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from retraining.debugger.mode import Refusal

log = logging.getLogger(__name__)

KEY = "debugger-mode.json"
FORMAT = 1


def recall_refusal(s3: Any, bucket: str, account: str) -> Refusal | None:
    """What is remembered about this account; a document about another account, or one that cannot be read, is not."""
    uri = f"s3://{bucket}/{KEY}"
    try:
        document = json.loads(s3.get_object(Bucket=bucket, Key=KEY)["Body"].read())
        if document["format"] != FORMAT or document["mode"] != "self_hosted":
            raise ValueError(f"format {document['format']!r}, mode {document['mode']!r}")
        refusal = Refusal(
            account=str(document["account"]), reason=str(document["reason"]), noticed=str(document["noticed"]), uri=uri
        )
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
            log.warning("%s cannot be read, so nothing is known about Debugger here: %s", uri, error)
        return None
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s is passed over, because it is not what this package writes: %r", uri, error)
        return None
    if refusal.account != account:
        log.info("%s is about account %s; this is %s.", uri, refusal.account, account)
        return None
    return refusal


def remember_refusal(s3: Any, bucket: str, account: str, reason: str) -> None:
    document = {
        "format": FORMAT,
        "mode": "self_hosted",
        "reason": reason,
        "account": account,
        "noticed": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    uri = f"s3://{bucket}/{KEY}"
    try:
        s3.put_object(
            Bucket=bucket, Key=KEY, Body=json.dumps(document, indent=1).encode(), ContentType="application/json"
        )
        log.warning("Remembered in %s; delete that object to have SageMaker Debugger tried again.", uri)
    except (ClientError, BotoCoreError) as error:
        log.warning("This cannot be remembered in %s, so the next run will ask in vain again: %s", uri, error)
