"""What local_sagemaker reads in its own process: requests, records, filters, archives, requirements.txt."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from local_sagemaker import s3
from local_sagemaker.failures import JobFailedError
from local_sagemaker.sandbox.archives import Limits, unpack
from local_sagemaker.sandbox.patterns import PatternProcesses
from local_sagemaker.sandbox.requirements import Requirements
from local_sagemaker.transform.data_processing import CSV, JSON_LINES, DataProcessing
from local_sagemaker.transform.json_path import JsonPath
from local_sagemaker.transform.records import BadRecordError, Body, gunzip, pack, split
from local_sagemaker.wire import service_model
from local_sagemaker.wire.errors import ApiError
from local_sagemaker.wire.protocol import Call
from tests.fuzz.data_step import TAR_WORDS, in_a_file, tars
from tests.fuzz.target import Target
from tests.local_sagemaker import generated

MAX_BYTES = 2**20
BY_INDEX = ("$", "$[0:2]", "$[-1, 0]", "$[1:3][0]")
FILTERS = (*BY_INDEX, "$['a']", "$.a.*")


def read_request(headers: dict[str, str], path: str = "/") -> Callable[[bytes], None]:
    def read(body: bytes) -> None:
        try:
            call = Call.parse(path, headers, body)
            service_model.check_request(call.service, call.operation, call.request)
        except ApiError as error:
            if error.status >= 500:
                raise

    return read


def read_records(body: bytes) -> None:
    """The first byte chooses how they are separated."""
    kind = ("Line", "RecordIO", "TFRecord")[body[0] % 3 if body else 0]
    chunks = [body[at : at + 100] for at in range(1, len(body), 100)]
    try:
        records = split(iter(chunks), kind, framed=False, max_bytes=MAX_BYTES)
        for packed in pack(records, several=True, max_bytes=MAX_BYTES):
            assert len(packed.content) <= MAX_BYTES
    except BadRecordError:
        pass


def read_gzip(body: bytes) -> None:
    try:
        for chunk in gunzip(body[at : at + 100] for at in range(0, len(body), 100)):
            assert len(chunk) <= 2**20
    except BadRecordError:
        pass


def read_path(body: bytes) -> None:
    try:
        path = JsonPath.parse(body.decode(errors="replace"))
    except ValueError:
        return
    for value in ([[1, 2], {"a": 3}], {"a": [1, {"b": 2}]}, 1, "text", None):
        with contextlib.suppress(ValueError):
            path.select(value)


def read_filtered(kind: str) -> Callable[[bytes], None]:
    """Records and answers of one job; all filters that stand for what people write."""
    requests = [
        {
            "TransformInput": {"ContentType": kind, "SplitType": "Line", "DataSource": {}},
            "TransformOutput": {"Accept": kind, "AssembleWith": "Line"},
            "DataProcessing": {"InputFilter": words, "OutputFilter": words, "JoinSource": "Input"},
        }
        for words in (BY_INDEX if kind == CSV else FILTERS)
    ]
    filters = [DataProcessing.of(request, 0.0) for request in requests]

    def read(body: bytes) -> None:
        record, _, answer = body.partition(b"\n")
        for processing in filters:
            try:
                asked = processing.ask(record)
                processing.answer(Body(1, record, asked), answer)
            except BadRecordError:
                pass

    return read


def read_source(path: Path) -> None:
    with contextlib.suppress(JobFailedError):
        unpack(path, path.parent / "target", "an archive", Limits(100, MAX_BYTES, links=True))
    beside = {entry.name for entry in path.parent.iterdir()}
    assert beside <= {path.name, "target"}, beside
    target = (path.parent / "target").resolve()
    outside = [found for found in target.rglob("*") if not Path(os.path.realpath(found)).is_relative_to(target)]
    assert not outside, outside


@functools.cache
def processes() -> PatternProcesses:
    running = PatternProcesses(cpu_s=0.05)
    atexit.register(running.close)
    return running


def read_pattern(body: bytes) -> None:
    """The first line is a user's pattern, the others what a job printed. What overruns costs itself alone."""
    first, _, rest = body.decode(errors="replace").partition("\n")
    lines = rest.split("\n")
    (problem,) = processes().problems([first])
    found, sound = processes().numbers([first, "(x)|([0-9])"], lines)
    assert problem is None or isinstance(problem, str)
    assert found is None or all(0 <= line < len(lines) and isinstance(number, float) for line, number in found)
    assert sound is not None


def read_manifest(body: bytes) -> None:
    with contextlib.suppress(JobFailedError):
        prefix, keys = s3.manifest(body, "s3://bucket/a.manifest")
        bucket, _ = s3.split_uri(prefix)
        assert bucket and all(keys)


def read_requirements(path: Path) -> None:
    with contextlib.suppress(JobFailedError):
        Requirements.read(path)


# --- examples -------------------------------------------------------------------------------------------------------


def json_requests() -> list[bytes]:
    return [json.dumps(request).encode() for request in generated.LIKELY.values()]


def forms() -> list[bytes]:
    import random

    rng = random.Random(1)
    return [
        urllib.parse.urlencode({"Action": "GetCallerIdentity", "Version": "2011-06-15"}).encode(),
        *(generated.form(rng, "cloudwatch", ["PutMetricData", "ListMetrics"]) for _ in range(20)),
    ]


def cbors() -> list[bytes]:
    import random

    return [generated.cbor(random.Random(number)) for number in range(40)]


def records() -> list[bytes]:
    recordio = b"\x0a\x23\xd7\xce\x03\x00\x00\x00abc\x00"
    tfrecord = b"\x03\0\0\0\0\0\0\0" + bytes(4) + b"abc" + bytes(4)
    return [b"\x00a,b\nc,d\n", b"\x01" + recordio * 3, b"\x02" + tfrecord * 3]


def gzips() -> list[bytes]:
    import gzip

    return [gzip.compress(b"abc" * 100, mtime=0), gzip.compress(b"a", mtime=0) + gzip.compress(bytes(9999), mtime=0)]


def paths() -> list[bytes]:
    return [words.encode() for words in FILTERS]


def json_lines() -> list[bytes]:
    return [b'{"a": [1, 2, 3]}\n{"b": 1}', b"[1, 2, 3]\n[4]", b'"text"\n1.5']


def csv_lines() -> list[bytes]:
    return [b"1,2,3\n4", b'"a ""b""",2\n"x\ny",1', b",,,\n"]


def patterns() -> list[bytes]:
    line = b"epoch 3/10 loss=0.25 accuracy=0.5\r 3%|##  | 13/400 [00:01<00:30]\nloss=1e-3 \xc3\xa9"
    return [
        pattern + b"\n" + line
        for pattern in (b"loss=([0-9.]+)", rb".*?accuracy=(\S+)", rb"\s*(\d+)%", b"(a+)+$", rb"(?i:L(?P<a>.)SS)(?=.)")
    ]


def manifests() -> list[bytes]:
    return [
        json.dumps([{"prefix": "s3://bucket/data/"}, "a/1.png", "\u00e9", "b/"]).encode(),
        b'[{"prefix": "s3://b/"}]',
    ]


def requirements() -> list[bytes]:
    return [
        b"numpy>=1.20,<3; python_version > '3.8'\n# a comment\n-r other.txt\n--index-url https://example.com\n./folder\n",
        b"package @ https://example.com/package.whl\n-e .\nname[extra]==1.0 \\\n  --hash=sha256:00\n",
    ]


JSON_WORDS = (b"null", b"1e999", b"NaN", b'"\\ud800"', b"[" * 300, b'{"":', b"-0.0", b"\xff", b"\x00", b"9" * 400)
TARGET = "SageMaker.CreateTrainingJob"
SIGNED = "AWS4-HMAC-SHA256 Credential=k/20261101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"
FORM = {"content-type": "application/x-www-form-urlencoded", "authorization": SIGNED.format("monitoring")}
CBOR = {"smithy-protocol": "rpc-v2-cbor", "authorization": SIGNED.format("monitoring")}

TARGETS = (
    Target("api_json", read_request({"x-amz-target": TARGET}), json_requests, JSON_WORDS),
    Target("api_gzip", read_request({"x-amz-target": TARGET, "content-encoding": "gzip"}), gzips),
    Target("api_form", read_request(FORM), forms, (b"&", b"=", b".member.1", b".1", b"%", b"%00", b"Action=")),
    Target(
        "api_cbor", read_request(CBOR, "/operation/PutMetricData"), cbors, (b"\x9f", b"\xbf", b"\xff", b"\xfb", b"\x1b")
    ),
    Target("transform_records", read_records, records, (b"\x0a\x23\xd7\xce", b"\n")),
    Target("transform_gzip", read_gzip, gzips),
    Target("transform_filter", read_path, paths, (b"[", b"]", b"*", b":", b"['", b"']", b"..", b"9" * 400, b"-")),
    Target("transform_json", read_filtered(JSON_LINES), json_lines, JSON_WORDS),
    Target("transform_csv", read_filtered(CSV), csv_lines, (b'"', b",", b"\r", b"\x00", b"\n")),
    Target(
        "metric_pattern",
        read_pattern,
        patterns,
        (b"(a|a?)+", b"{1,65535}", b"[^", b"(?", b"(" * 90, b"\\1", b"\\N{DIGIT ONE}", b".*", b"\r", b"a" * 60 + b"!"),
    ),
    Target("manifest", read_manifest, manifests, (*JSON_WORDS, b'"prefix":', b"s3://", b"../", b"[[")),
    Target("source_archive", in_a_file("a.tar.gz", read_source), tars("w:gz"), TAR_WORDS),
    Target(
        "requirements_txt",
        in_a_file("requirements.txt", read_requirements),
        requirements,
        (b"-r ", b"-c ", b"\\\n", b"@"),
    ),
)
