"""An S3 that keeps its objects in memory and answers each request after a while, as one in a region does.

    python -m bench.sink PORT [--delay-ms 25]

It knows what clients of a sync ask for (PUT, copy, GET, HEAD, ListObjectsV2) and counts it: GET /.counts tells, and
begins anew.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import urllib.parse
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from xml.sax.saxutils import escape

PAGE = 1000
Answer = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Kept:
    body: bytes
    etag: str
    modified: datetime


@dataclass
class Sink:
    delay_s: float
    objects: dict[str, Kept] = field(default_factory=dict)
    """By `bucket/key`."""
    counts: Counter[str] = field(default_factory=Counter)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")
                method, target, _ = first.split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                if headers.get("expect"):
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if "aws-chunked" in headers.get("content-encoding", ""):
                    body = unchunked(body)
                status, fields, content = self.answer(method, target, headers, body)
                if not target.startswith("/."):
                    await asyncio.sleep(self.delay_s)
                fields.setdefault("Content-Length", str(len(content)))
                told = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{told}\r\n".encode() + (b"" if method == "HEAD" else content))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        path, _, query = target.partition("?")
        name, asked = urllib.parse.unquote(path).lstrip("/"), dict(urllib.parse.parse_qsl(query, True))
        if name == ".counts":
            told, self.counts = json.dumps(self.counts).encode(), Counter()
            return 200, {}, told
        listing = method == "GET" and "/" not in name.rstrip("/")
        self.counts["LIST" if listing else method] += 1
        if listing:
            return 200, {"Content-Type": "application/xml"}, self.listed(name.rstrip("/"), asked)
        if method == "PUT" and (source := headers.get("x-amz-copy-source")):
            body = self.objects[urllib.parse.unquote(source).lstrip("/")].body
        if method == "PUT":
            kept = self.objects[name] = Kept(body, f'"{hashlib.md5(body).hexdigest()}"', datetime.now(UTC))
            content = f"<CopyObjectResult><ETag>{kept.etag}</ETag></CopyObjectResult>" if source else ""
            return 200, {"ETag": kept.etag}, content.encode()
        if method == "HEAD" and "/" not in name:
            return 200, {}, b""
        if name not in self.objects:
            return 404, {"Content-Type": "application/xml"}, b"<Error><Code>NoSuchKey</Code></Error>"
        kept = self.objects[name]
        fields = {"ETag": kept.etag, "Last-Modified": format_datetime(kept.modified, usegmt=True)}
        return 200, fields | {"Content-Length": str(len(kept.body))}, kept.body

    def listed(self, bucket: str, asked: dict[str, str]) -> bytes:
        prefix, after = asked.get("prefix", ""), asked.get("continuation-token", asked.get("start-after", ""))
        keys = sorted(
            key
            for name in self.objects
            if name.startswith(f"{bucket}/{prefix}") and (key := name.removeprefix(f"{bucket}/")) > after
        )
        page, more = keys[:PAGE], len(keys) > PAGE
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(kept.body)}</Size><ETag>{kept.etag}</ETag>"
            f"<LastModified>{kept.modified:%Y-%m-%dT%H:%M:%S.000Z}</LastModified></Contents>"
            for key in page
            for kept in [self.objects[f"{bucket}/{key}"]]
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return (
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{bucket}</Name>'
            f"<KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}"
            "</ListBucketResult>"
        ).encode()


def unchunked(body: bytes) -> bytes:
    """What lies in aws-chunked pieces, without their signatures and trailers."""
    content, at = [], 0
    while size := int(body[at : (end := body.index(b"\r\n", at))].partition(b";")[0], 16):
        content.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(content)


async def run(port: int, delay_s: float) -> None:
    server = await asyncio.start_server(Sink(delay_s).serve, "127.0.0.1", port, limit=2**16, backlog=1024)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("--delay-ms", type=float, default=25)
    options = parser.parse_args()
    asyncio.run(run(options.port, options.delay_ms / 1000))


if __name__ == "__main__":
    main()
