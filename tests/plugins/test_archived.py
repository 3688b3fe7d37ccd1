"""Objects in S3's archives are named before anything is read, with what to do about them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from retraining.dataset.processing.divide import divide
from retraining.dataset.source_error import SourceError
from retraining.dataset.sync import sync_dataset
from retraining.plan import Plan
from retraining.pretrained.staging import TargetError, require_staged
from tests.object_store import CLIENT
from tests.plugins.test_sync import picture

MakePlan = Callable[..., Plan]
KEYS = [f"in/{label}/{number}.png" for label in ("circle", "square") for number in range(20)]


@pytest.fixture
def glacier(s3_endpoint: str, bucket: str) -> Any:
    """A client of the store that answers as S3 does about objects in an archive; which they are, is in `archived`."""
    s3 = boto3.client("s3", endpoint_url=s3_endpoint, **CLIENT)
    s3.archived = {}  # type: ignore[attr-defined]

    def listed(parsed: dict[str, Any], **_: Any) -> None:
        for entry in parsed.get("Contents", ()):
            entry |= s3.archived.get(entry["Key"], {})  # type: ignore[attr-defined]

    def headed(parsed: dict[str, Any], context: Any, **_: Any) -> None:
        parsed |= s3.archived.get(context["key"], {})  # type: ignore[attr-defined]

    def asked(params: dict[str, Any], context: Any, **_: Any) -> None:
        context["key"] = params["Key"]

    def read(params: dict[str, Any], **_: Any) -> None:
        there = s3.archived.get(params["Key"], {})  # type: ignore[attr-defined]
        if there and "RestoreStatus" not in there:
            said = {
                "Code": "InvalidObjectState",
                "Message": "The operation is not valid for the object's storage class",
            }
            raise ClientError({"Error": said}, "GetObject")

    s3.meta.events.register("after-call.s3.ListObjectsV2", listed)
    s3.meta.events.register("provide-client-params.s3.HeadObject", asked)
    s3.meta.events.register("after-call.s3.HeadObject", headed)
    s3.meta.events.register("provide-client-params.s3.GetObject", read)
    for shade, key in enumerate(KEYS):
        s3.put_object(Bucket=bucket, Key=key, Body=picture(shade))
    return s3


@pytest.mark.parametrize("where", ["worker", "processing"])
def test_archived_images_are_named_before_reading(glacier: Any, make_plan: MakePlan, bucket: str, where: str) -> None:
    plan = make_plan(bucket, source=f"s3://{bucket}/in", sync={"where": where})
    glacier.archived |= {key: {"StorageClass": "DEEP_ARCHIVE"} for key in KEYS[2:9]}
    with pytest.raises(SourceError, match=r"S3 keeps circle/2\.png, .* and 2 more in an archive .* Restore them \(aws"):
        divide(plan, glacier) if where == "processing" else sync_dataset(plan, glacier)


def test_restored_images_are_read(glacier: Any, make_plan: MakePlan, bucket: str) -> None:
    restored = {"IsRestoreInProgress": False, "RestoreExpiryDate": datetime(2026, 12, 24, tzinfo=UTC)}
    glacier.archived |= {key: {"StorageClass": "GLACIER", "RestoreStatus": restored} for key in KEYS}
    assert sync_dataset(make_plan(bucket, source=f"s3://{bucket}/in"), glacier).read == len(KEYS)


def test_what_was_read_before_may_be_archived(glacier: Any, make_plan: MakePlan, bucket: str) -> None:
    """By a lifecycle rule, say: nothing of it is read again."""
    plan = make_plan(bucket, source=f"s3://{bucket}/in")
    before = sync_dataset(plan, glacier).version
    glacier.archived |= {key: {"StorageClass": "GLACIER"} for key in KEYS}
    assert sync_dataset(plan, glacier).version.fingerprint == before.fingerprint


def test_an_archive_tier_that_no_listing_tells_is_named(glacier: Any, make_plan: MakePlan, bucket: str) -> None:
    glacier.archived[KEYS[3]] = {"StorageClass": "INTELLIGENT_TIERING"}
    with pytest.raises(SourceError, match=r"S3 keeps circle/3\.png in an archive"):
        sync_dataset(make_plan(bucket, source=f"s3://{bucket}/in"), glacier)


def test_an_archived_archive_is_named(glacier: Any, make_plan: MakePlan, bucket: str) -> None:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as packed:
        packed.writestr("a/1.png", b"x")
    glacier.put_object(Bucket=bucket, Key="x.zip", Body=body.getvalue())
    glacier.archived["x.zip"] = {"StorageClass": "GLACIER"}
    with pytest.raises(SourceError, match=r"S3 keeps x\.zip in an archive"):
        sync_dataset(make_plan(bucket, source=f"s3://{bucket}/x.zip"), glacier)


def test_archived_weights_are_refused_before_a_job(glacier: Any, bucket: str) -> None:
    glacier.put_object(Bucket=bucket, Key="a.pth", Body=b"x")
    require_staged(f"s3://{bucket}/a.pth", glacier)
    glacier.archived["a.pth"] = {"StorageClass": "GLACIER", "Restore": 'ongoing-request="true"'}
    with pytest.raises(TargetError, match=r"a\.pth: S3 keeps it in an archive \(Glacier\)"):
        require_staged(f"s3://{bucket}/a.pth", glacier)
