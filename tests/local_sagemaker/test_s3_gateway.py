"""S3 through the server's own port."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import httpx
import pytest
from botocore.exceptions import ClientError

from tests.local_sagemaker.harness import BUCKET, Server
from tests.object_store import CLIENT, KEY_ID, REGION, SECRET
from tests.waiting import PATIENCE_S


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
    answer = httpx.put(request.url, content=b"fake", headers=headers, timeout=PATIENCE_S)
    assert answer.status_code == 400 or answer.status_code == 403, answer.text
    assert server.s3.get_object(Bucket=BUCKET, Key="gateway/true")["Body"].read() == b"true"


def test_a_presigned_address_works(server: Server) -> None:
    server.s3.put_object(Bucket=BUCKET, Key="gateway/presigned", Body=b"seen")
    config = {"config": CLIENT["config"].merge(botocore.config.Config(signature_version="s3v4"))}
    url = server.client("s3", **config).generate_presigned_url(
        "get_object", Params={"Bucket": BUCKET, "Key": "gateway/presigned"}
    )
    assert httpx.get(url, timeout=PATIENCE_S).content == b"seen"
    assert httpx.get(url.replace("presigned?", "large?"), timeout=PATIENCE_S).status_code == 403


def test_addresses_that_boto3_presigns_unasked_work(s3: Any) -> None:
    """For us-east-1 it presigns by version 2."""
    key = {"Bucket": BUCKET, "Key": "gateway/ä presigned+"}
    put, get = (s3.generate_presigned_url(operation, Params=key) for operation in ("put_object", "get_object"))
    assert "AWSAccessKeyId=" in get and "X-Amz-" not in get
    assert httpx.put(put, content=b"seen", timeout=PATIENCE_S).status_code == 200
    assert httpx.get(get, timeout=PATIENCE_S).content == b"seen"
    for other in (get.replace("Signature=", "Signature=A"), get.replace(KEY_ID, "a"), re.sub("[0-9]+$", "1", get), put):
        refused = httpx.get(other, timeout=PATIENCE_S)
        assert refused.status_code == 403 and "<Code>" in refused.text


@pytest.mark.parametrize("version", [None, "s3v4"])
def test_a_form_with_a_signed_policy_uploads(server: Server, version: str | None) -> None:
    key, changes = f"gateway/form-{version}", {"config": botocore.config.Config(signature_version=version)}
    form = server.client("s3", **(changes if version else {})).generate_presigned_post(BUCKET, key)
    sent = httpx.post(form["url"], data=form["fields"], files={"file": b"kept"}, timeout=PATIENCE_S)
    assert sent.status_code == 204, sent.text
    assert server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"kept"
    for fields in (form["fields"] | {"key": "gateway/stranger"}, form["fields"] | {"policy": "e30="}, {"key": key}):
        refused = httpx.post(form["url"], data=fields, files={"file": b"changed"}, timeout=PATIENCE_S)
        assert refused.status_code in {400, 403} and "<Code>" in refused.text
    assert server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"kept"


def test_a_store_that_is_not_there_is_told(make_server: Any) -> None:
    server = make_server()
    server.stop()
    server.s3_endpoint = "http://127.0.0.1:9"
    server.start()
    with pytest.raises(ClientError, match=r"the object store http://127\.0\.0\.1:9 cannot be reached"):
        server.client("s3").list_buckets()


class ClosingStore(socketserver.StreamRequestHandler):
    """Answers the first request of each connection, keeps it, and closes it when the next one has come."""

    def handle(self) -> None:
        for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b""):
            read_head(self)
            self.wfile.write(answer)


class StumblingStore(socketserver.StreamRequestHandler):
    """Answers one request of four."""

    numbers = itertools.count()

    def handle(self) -> None:
        read_head(self)
        status = b"200 OK" if next(self.numbers) % 4 == 3 else b"500 Internal Server Error"
        self.wfile.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


def read_head(handler: socketserver.StreamRequestHandler) -> None:
    while (handler.rfile.readline() or b"\r\n") != b"\r\n":
        pass


@contextlib.contextmanager
def served_by(make_server: Any, store: type[socketserver.BaseRequestHandler]) -> Iterator[Any]:
    """An S3 client of a server whose object store is another; it asks once."""
    server = make_server()
    server.stop()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), store) as listener:
        listener.daemon_threads = True  # one waits for the next request on a connection that is kept
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        server.s3_endpoint = f"http://127.0.0.1:{listener.server_address[1]}"
        server.start()
        once = botocore.config.Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
        yield server.client("s3", config=once)
        listener.shutdown()


def test_a_kept_connection_that_the_store_closes_costs_no_reader(make_server: Any) -> None:
    with served_by(make_server, ClosingStore) as client:
        assert [client.get_object(Bucket="b", Key="k")["Body"].read() for _ in range(6)] == [b"ok"] * 6


def test_a_failing_store_is_read_again(make_server: Any) -> None:
    with served_by(make_server, StumblingStore) as client:
        assert [client.get_object(Bucket="b", Key="k")["Body"].read() for _ in range(3)] == [b"ok"] * 3
        with pytest.raises(ClientError, match="500"):
            client.put_object(Bucket="b", Key="k", Body=b"written once")


def credential(service: str = "s3") -> str:
    return f"AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/{service}/aws4_request"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "attacker.example"},
        {"host": "bucket.attacker.example"},
        {"host": ""},
        {"origin": "http://attacker.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_web_pages_cannot_reach_the_store(server: Server, headers: dict[str, str]) -> None:
    signed = {"authorization": f"{credential()}, SignedHeaders=host, Signature=0"}
    answer = httpx.get(f"{server.url}/{BUCKET}/gateway/x", headers=signed | headers, timeout=PATIENCE_S)
    assert answer.status_code == 403 and "<Code>AccessDenied</Code>" in answer.text
    presigned = f"{server.url}/{BUCKET}/x?X-Amz-Credential=k%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"
    assert "<Code>AccessDenied</Code>" in httpx.get(presigned, headers=headers, timeout=PATIENCE_S).text
    form = {"data": {"key": "x"}, "files": {"file": b"x"}, "headers": headers, "timeout": PATIENCE_S}
    assert "<Code>AccessDenied</Code>" in httpx.post(f"{server.url}/{BUCKET}", **form).text


#: Beginnings of requests that are signed for S3, in words, and badly.
ODD = (
    b"GET /b/%ff%00%2e%2e/\\..//%zz HTTP/1.1\r\n",
    b"GET /b/k?X=%ff&%=&&=&\x7f HTTP/1.1\r\n",
    b"GET /b/\xff HTTP/1.1\r\n",
    b"GET /b?list=\xff\xfe HTTP/1.1\r\n",
    b"GET /?X-Amz-Credential=/s3/aws4_request&X-Amz-Date=x&X-Amz-Expires=-1 HTTP/1.1\r\n",
    b"GET /b/k?X-Amz-Credential=%ff/s3/aws4_request&X-Amz-SignedHeaders=%00&X-Amz-Signature=\xc3 HTTP/1.1\r\n",
    b"GET /b/k?AWSAccessKeyId=%ff&Signature=%00&Expires=-1 HTTP/1.1\r\n",
    b"POST /b HTTP/1.1\r\ncontent-type: multipart/form-data\xff\r\ncontent-length: 1\r\n",
    b"GET /b?start-after=a&prefix=a HTTP/1.1\r\n",
    b"GET /b?start-after=%ff&prefix=%ff HTTP/1.1\r\nx-amz-date: \xff\r\n",
    b"PUT /b/k HTTP/1.1\r\nx-amz-server-side-encryption: aws:kms\r\ncontent-length: 1\r\n",
    b"PUT /b/k HTTP/1.1\r\nx-amz-server-side-encryption: aws:kms\xff\r\nx-amz-date: x\r\ncontent-length: 1\r\n",
    b"PUT /b/k HTTP/1.1\r\nx-amz-meta-a: \xff\xfe\r\ncontent-length: 1\r\n",
    b"PUT /b/k HTTP/1.1\r\ntransfer-encoding: chunked\r\nx-amz-decoded-content-length: x\r\n",
    b"PUT /b/k HTTP/1.1\r\nx-amz-date: 20260101T000000Z\r\ncontent-encoding: aws-chunked\r\ncontent-length: 1\r\n",
    b"GET /b?start-after=a&prefix=a HTTP/1.1\r\nx-amz-date: 20260101T000000Z\r\nx-amz-security-token: \xff\r\n",
    b"PROPFIND /b/k HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"POST /b?delete HTTP/1.1\r\ncontent-length: 1\r\n",
    b"POST /b/k?uploads HTTP/1.1\r\nx-amz-copy-source: %ff\r\n",
    b"GET " + b"/" * 8000 + b" HTTP/1.1\r\n",
    b"GET /" + b"b" * 8000 + b" HTTP/1.1\r\n",
    b"GET /b/" + b"%41" * 4000 + b" HTTP/1.1\r\n",
)
KEYS = (
    b"",
    credential().encode(),
    credential().encode() + b", SignedHeaders=, Signature=",
    credential().encode() + b", SignedHeaders=host;x-none, Signature=\xff\xff",
    credential().encode() + b", SignedHeaders=host;\xff;;, Signature=" + b"0" * 64,
    credential().encode() + b", SignedHeaders=host;x-none, Signature=" + b"0" * 64,
    credential().encode() + b", SignedHeaders=x-amz-date, Signature=" + b"0" * 64,
    b"AWS4-HMAC-SHA256 Credential=a/b/c/s3/e, SignedHeaders=host;x-amz-date, Signature=" + b"f" * 64,
    b"AWS4-HMAC-SHA256 Credential=////s3, Credential=a/b/c/s3/e, SignedHeaders",
    b"AWS4-HMAC-SHA256 Credential=k/\xff/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
)


@pytest.mark.parametrize("key", KEYS)
def test_no_odd_request_is_a_failure_of_the_server(server: Server, key: bytes) -> None:
    failed = []
    for odd in ODD:
        head = odd + b"host: 127.0.0.1\r\nconnection: close\r\n"
        if key:
            head += b"authorization: " + key + b"\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
            connection.sendall(head + b"\r\n" + (b"x" if b"content-length: 1" in odd else b""))
            connection.sendall(b"1\r\nx\r\n0\r\n\r\n" if b"chunked" in odd else b"")
            answer = b"".join(iter(functools.partial(connection.recv, 2**16), b""))
        if not answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 2")):
            failed.append((odd[:80], answer))
    assert failed == []
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("day", ["20261928", "00000000", "20260230", "20200101"])
def test_a_signature_of_no_such_day_is_refused(server: Server, day: str) -> None:
    """The store closes the connection at some of them."""
    signed = botocore.awsrequest.AWSRequest("GET", f"{server.url}/{BUCKET}/k")
    botocore.auth.S3SigV4Auth(botocore.credentials.Credentials(KEY_ID, SECRET), "s3", REGION).add_auth(signed)
    given = dict(signed.headers.items())
    headers = given | {"Authorization": re.sub(r"/\d{8}/", f"/{day}/", given["Authorization"])}
    answer = httpx.get(f"{server.url}/{BUCKET}/k", headers=headers, timeout=PATIENCE_S)
    assert (answer.status_code, "AuthorizationHeaderMalformed" in answer.text) == (400, True)


@pytest.mark.parametrize("moment", ["20261928T000000Z", "20200101T000000Z", "x", ""])
def test_a_presigned_address_of_no_such_moment_is_refused(server: Server, moment: str) -> None:
    client = server.client("s3", config=botocore.config.Config(signature_version="s3v4"))
    address = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "k"})
    answer = httpx.get(re.sub(r"(X-Amz-Date=)\w+", rf"\g<1>{moment}", address), timeout=PATIENCE_S)
    assert (answer.status_code, "AuthorizationQueryParametersError" in answer.text) == (400, True)
