"""S3 through the server's own port."""

from __future__ import annotations

import os
from typing import Any

import botocore.config
import httpx
import pytest
from botocore.exceptions import ClientError

from tests.local_sagemaker.harness import BUCKET, Server
from tests.object_store import CLIENT


@pytest.fixture(scope="module")
def s3(server: Server) -> Any:
    return server.client("s3")


def test_objects_go_through_whole(s3: Any, server: Server) -> None:
    body = os.urandom(3_000_000)
    s3.put_object(Bucket=BUCKET, Key="gateway/ä b+c", Body=body, ContentType="x/y", Metadata={"k": "v"})
    direct = server.s3.get_object(Bucket=BUCKET, Key="gateway/ä b+c")
    assert direct["Body"].read() == body and (direct["ContentType"], direct["Metadata"]) == ("x/y", {"k": "v"})
    part = s3.get_object(Bucket=BUCKET, Key="gateway/ä b+c", Range="bytes=10-19")
    assert part["Body"].read() == body[10:20] and part["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert s3.head_object(Bucket=BUCKET, Key="gateway/ä b+c")["ContentLength"] == len(body)


def test_a_large_file_goes_through_in_parts(s3: Any, tmp_path: Any) -> None:
    (tmp_path / "large").write_bytes(os.urandom(20 * 2**20))
    s3.upload_file(str(tmp_path / "large"), BUCKET, "gateway/large", ExtraArgs={"ServerSideEncryption": "aws:kms"})
    s3.download_file(BUCKET, "gateway/large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()


@pytest.mark.parametrize("key", [{}, {"SSEKMSKeyId": "alias/mine"}, {"BucketKeyEnabled": True}])
def test_an_upload_that_asks_for_kms_is_kept(s3: Any, key: dict[str, Any]) -> None:
    s3.put_object(Bucket=BUCKET, Key="gateway/kms", Body=b"kept", ServerSideEncryption="aws:kms", **key)
    assert s3.get_object(Bucket=BUCKET, Key="gateway/kms")["Body"].read() == b"kept"


def test_a_listing_after_its_own_prefix_lists_all(s3: Any) -> None:
    for name in ("index/1", "index/2", "other"):
        s3.put_object(Bucket=BUCKET, Key=f"gateway/list/{name}", Body=b"")
    prefix = "gateway/list/index"
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix, StartAfter=prefix, Delimiter="")
    assert sorted(item["Key"] for item in listed["Contents"]) == [f"{prefix}/1", f"{prefix}/2"]


def test_errors_are_those_of_the_store(s3: Any) -> None:
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=BUCKET, Key="gateway/none")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=BUCKET, Key="gateway/none")


@pytest.mark.parametrize("encryption", [{}, {"ServerSideEncryption": "aws:kms"}])
def test_a_wrong_secret_is_refused(server: Server, encryption: dict[str, str]) -> None:
    """Also where the gateway signs anew: it must not lend its own key to a stranger."""
    stranger = server.client("s3", aws_secret_access_key="not-the-secret")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.put_object(Bucket=BUCKET, Key="gateway/stranger", Body=b"x", **encryption)


def test_a_body_changed_on_the_way_is_refused(server: Server, s3: Any) -> None:
    sent: dict[str, Any] = {}
    s3.meta.events.register_last("before-send.s3.PutObject", lambda request, **_: sent.update(request=request))
    s3.put_object(Bucket=BUCKET, Key="gateway/true", Body=b"true", ServerSideEncryption="aws:kms")
    request = sent["request"]
    headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
    answer = httpx.put(request.url, content=b"fake", headers=headers)
    assert answer.status_code == 400 or answer.status_code == 403, answer.text
    assert server.s3.get_object(Bucket=BUCKET, Key="gateway/true")["Body"].read() == b"true"


def test_a_presigned_address_works(server: Server) -> None:
    server.s3.put_object(Bucket=BUCKET, Key="gateway/presigned", Body=b"seen")
    config = {"config": CLIENT["config"].merge(botocore.config.Config(signature_version="s3v4"))}
    url = server.client("s3", **config).generate_presigned_url(
        "get_object", Params={"Bucket": BUCKET, "Key": "gateway/presigned"}
    )
    assert httpx.get(url).content == b"seen"
    assert httpx.get(url.replace("presigned?", "large?")).status_code == 403


def test_a_store_that_is_not_there_is_told(make_server: Any) -> None:
    server = make_server()
    server.stop()
    server.s3_endpoint = "http://127.0.0.1:9"
    server.start()
    with pytest.raises(ClientError, match=r"the object store http://127\.0\.0\.1:9 cannot be reached"):
        server.client("s3").list_buckets()
