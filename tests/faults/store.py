"""S3 in memory: what boto3 sends over the wire, answered from a dict."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.faults.wire import Answer, Refusal


class Store:
    """Objects of one bucket by their key."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def answer(self, operation: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        parts = urlsplit(url)
        key = unquote(parts.path.lstrip("/").partition("/")[2])
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if operation == "HeadBucket":
            return Answer(b"", {})
        if operation == "ListObjectsV2":
            return self._listing(query.get("prefix", ""), query.get("delimiter", ""))
        if operation == "CopyObject":
            return self._copy(key, headers)
        if operation == "PutObject":
            return self._put(key, headers, body)
        if operation == "GetObject":
            return self._get(key)
        if operation == "HeadObject":
            return Answer(b"", self._get(key).headers)
        if operation == "DeleteObject":
            self.objects.pop(key, None)
            return Answer(b"", {}, 204)
        raise NotImplementedError(f"S3 {operation}")

    def etag(self, key: str) -> str | None:
        return _etag(self.objects[key]) if key in self.objects else None

    def _put(self, key: str, headers: Mapping[str, str], body: bytes) -> Answer:
        given = {name.lower(): _text(value) for name, value in headers.items()}
        if "if-none-match" in given and key in self.objects:
            raise Refusal("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
        if "if-match" in given and given["if-match"] != self.etag(key):
            raise Refusal("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
        self.objects[key] = body
        return Answer(b"", {"ETag": self.etag(key) or ""})

    def _copy(self, key: str, headers: Mapping[str, str]) -> Answer:
        given = {name.lower(): _text(value) for name, value in headers.items()}
        source = unquote(given["x-amz-copy-source"]).lstrip("/").partition("/")[2]
        body = self.objects[source] if self._get(source) else b""
        if given.get("x-amz-copy-source-if-match", self.etag(source)) != self.etag(source):
            raise Refusal("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
        self.objects[key] = body
        text = f"<CopyObjectResult><ETag>{escape(_etag(body))}</ETag></CopyObjectResult>"
        return Answer(text.encode(), {"Content-Type": "application/xml"})

    def _get(self, key: str) -> Answer:
        if key not in self.objects:
            raise Refusal("NoSuchKey", f"The specified key does not exist: {key}", 404)
        body = self.objects[key]
        return Answer(body, {"ETag": self.etag(key) or "", "Content-Length": str(len(body))})

    def _listing(self, prefix: str, delimiter: str) -> Answer:
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        deeper = [key for key in keys if delimiter and delimiter in key[len(prefix) :]]
        folders = {prefix + key[len(prefix) :].partition(delimiter)[0] + delimiter for key in deeper}
        keys = [key for key in keys if key not in deeper]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key])}</Size>"
            f"<ETag>{escape(_etag(self.objects[key]))}</ETag></Contents>"
            for key in keys
        )
        entries += "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders))
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        return Answer(text.encode(), {"Content-Type": "application/xml"})


@lru_cache(maxsize=10_000)
def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
