"""When a program counts as ready: it has done, for us, what it is there for."""

from datetime import datetime
from typing import Any

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from stack.credentials import Credentials
from stack.processes import Record
from stack.services import AIRFLOW_PARTS, HEALTH_KEYS
from stack.settings import BUCKET, REGION, Settings

SENTINEL = ".stack-ready"


def aws_client(service: str, settings: Settings, credentials: Credentials, *, read_timeout_s: float = 10) -> Any:
    """A boto3 client of the local stack, whatever AWS settings this shell has."""
    config = Config(
        connect_timeout=2,
        read_timeout=read_timeout_s,
        retries={"total_max_attempts": 1},
        proxies={},
        ignore_configured_endpoint_urls=True,
        s3={"addressing_style": "path"},
    )
    session = boto3.Session(
        aws_access_key_id=credentials.aws_access_key_id,
        aws_secret_access_key=credentials.aws_secret_access_key,
        region_name=REGION,
    )
    url = settings.s3_url if service == "s3" else settings.sagemaker_url
    return session.client(service, endpoint_url=url, config=config)


def store_problem(s3: Any) -> str | None:
    """None once an object written now can be read back; else why not yet. Makes the bucket on the way.

    SeaweedFS answers ListBuckets seconds before it can serve an object, so nothing less than a real read counts.
    """
    try:
        try:
            s3.create_bucket(Bucket=BUCKET)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise
        s3.put_object(Bucket=BUCKET, Key=SENTINEL, Body=b"ready")
        found = s3.get_object(Bucket=BUCKET, Key=SENTINEL)["Body"].read()
    except (BotoCoreError, ClientError) as error:
        return str(error)
    return None if found == b"ready" else f"read back {found!r} instead of what was written"


def server_problem(sts: Any) -> str | None:
    """None once local_sagemaker knows who we are."""
    try:
        sts.get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        return str(error)
    return None


def airflow_problem(settings: Settings, records: dict[str, Record]) -> str | None:
    """None once the API answers and every part has sent a heartbeat since it was started."""
    try:
        with httpx.Client(trust_env=False, timeout=5) as client:
            health = client.get(f"{settings.airflow_url}/api/v2/monitor/health").raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        return f"api-server: {error or type(error).__name__}"
    return unhealthy_parts(health, {name: records[name].started_at for name in AIRFLOW_PARTS if name in records})


def unhealthy_parts(health: dict[str, Any], started_at: dict[str, float]) -> str | None:
    """What the answer of /api/v2/monitor/health still lacks; `started_at` in epoch seconds by part.

    A part is called healthy for half a minute after its last heartbeat, so after a quick restart the answer may still
    speak of the one before: only a heartbeat younger than the start counts.
    """
    waiting = []
    for key, part in HEALTH_KEYS.items():
        found = health.get(key) or {}
        heartbeat = found.get(f"latest_{key}_heartbeat")
        fresh = key == "metadatabase" or (
            heartbeat is not None and datetime.fromisoformat(heartbeat).timestamp() >= started_at.get(part, 0)
        )
        if found.get("status") != "healthy" or not fresh:
            waiting.append(f"{part} is {found.get('status') or 'not up'}" + ("" if fresh else ", no heartbeat yet"))
    return "; ".join(waiting) or None
