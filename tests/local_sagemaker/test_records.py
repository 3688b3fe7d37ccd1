"""Records of a batch transform job: cut, filtered, joined; in bounded memory."""

from __future__ import annotations

import concurrent.futures
import gzip
import json
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from local_sagemaker.s3 import Object, ObjectStore
from local_sagemaker.transform import records
from local_sagemaker.transform.data_processing import DataProcessing
from local_sagemaker.transform.json_path import JsonPath
from local_sagemaker.transform.model_client import ModelClient, Parameters
from local_sagemaker.transform.object_transform import Budget, Instance
from local_sagemaker.transform.records import BadRecordError, Body
from tests.waiting import PATIENCE_S

MAGIC = 0xCED7230A


def chunked(data: bytes, size: int = 3) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def split(data: bytes, kind: str, *, framed: bool = False, max_bytes: int = 0) -> list[bytes]:
    return list(records.split(chunked(data), kind, framed=framed, max_bytes=max_bytes))


def recordio(*parts: tuple[int, bytes]) -> bytes:
    return b"".join(
        struct.pack("<II", MAGIC, flag << 29 | len(data)) + data + bytes(-len(data) % 4) for flag, data in parts
    )


def tfrecord(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + b"CRC1" + data + b"CRC2"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"one\ntwo\n", [b"one\n", b"two\n"]),
        (b"one\r\ntwo", [b"one\r\n", b"two"]),
        (b"\n\nx", [b"\n", b"\n", b"x"]),
        (b"", []),
    ],
)
def test_lines_keep_their_ends_across_chunks(data: bytes, expected: list[bytes]) -> None:
    assert split(data, "Line") == expected


def test_recordio_loses_its_frame_alone_and_keeps_it_beside_others() -> None:
    data = recordio((0, b"first"), (0, b""), (0, b"third!!!"))
    assert split(data, "RecordIO") == [b"first", b"", b"third!!!"]
    assert b"".join(split(data, "RecordIO", framed=True)) == data


def test_recordio_parts_are_one_record() -> None:
    """A record that holds the magic number was cut there, and the number is put back."""
    data = recordio((1, b"ab"), (2, b"cd"), (3, b"ef"), (0, b"x"))
    magic = struct.pack("<I", MAGIC)
    assert split(data, "RecordIO") == [b"ab" + magic + b"cd" + magic + b"ef", b"x"]


def test_tfrecord_loses_its_frame_alone_and_keeps_it_beside_others() -> None:
    data = tfrecord(b"first") + tfrecord(b"")
    assert split(data, "TFRecord") == [b"first", b""]
    assert split(data, "TFRecord", framed=True) == [tfrecord(b"first"), tfrecord(b"")]


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("Line", b"short\n" + b"x" * 2**20 + b"\n", "413: record 2 is over MaxPayloadInMB (1)"),
        ("None", b"x" * (2**20 + 1), "413: it is over MaxPayloadInMB (1)"),
        ("RecordIO", recordio((0, bytes(2**20 + 4))), "413: record 1 is over"),
        ("RecordIO", b"not a recordio file", "does not start with the magic number"),
        ("RecordIO", recordio((0, b"whole"))[:-3], "record 1 is cut off: 5 of 8 bytes"),
        ("RecordIO", recordio((1, b"begun")), "its last part is missing"),
        ("RecordIO", recordio((3, b"ended")), "parts in disorder"),
        ("TFRecord", tfrecord(b"whole")[:-1], "record 1 is cut off"),
        ("TFRecord", b"\xff" * 20, "413: record 1 is over"),
        ("TFRecord", b"12345", "cut off in its header"),
    ],
)
def test_bad_records_are_named(kind: str, data: bytes, said: str) -> None:
    with pytest.raises(BadRecordError, match=said.replace("(", r"\(").replace(")", r"\)")):
        list(records.split(iter([data]), kind, framed=False, max_bytes=2**20))


def test_line_over_the_limit_is_refused_before_it_is_read() -> None:
    """An endless line would else fill the memory."""
    endless = iter(lambda: b"x" * 2**20, b"")
    with pytest.raises(BadRecordError, match="413: record 1"):
        list(records.split(endless, "Line", framed=False, max_bytes=2**21))


def test_gzip_is_unpacked_in_small_pieces() -> None:
    data = b"0" * (20 * 2**20)
    pieces = list(records.gunzip(chunked(gzip.compress(data) + gzip.compress(b"end"), 500)))
    assert b"".join(pieces) == data + b"end"
    assert max(map(len, pieces)) <= 2**20


@pytest.mark.parametrize(
    "data",
    [b"no gzip", gzip.compress(b"cut off" * 100)[:-9], gzip.compress(b"x") + b"rest"],
    ids=["no gzip", "cut off", "more behind it"],
)
def test_bad_gzip_is_named(data: bytes) -> None:
    with pytest.raises(BadRecordError, match="gzip file"):
        list(records.gunzip(chunked(data)))


def test_bodies_hold_as_many_records_as_fit() -> None:
    lines = [b"1234\n", b"1234\n", b"1\n", b"123456789\n", b"1\n"]
    bodies = list(records.pack(lines, several=True, max_bytes=10))
    assert [body.content for body in bodies] == [b"1234\n1234\n", b"1\n", b"123456789\n", b"1\n"]
    assert (bodies[0].count, bodies[0].raw) == (2, b"1234\n1234\n")
    assert [body.count for body in records.pack(lines, several=False, max_bytes=10)] == [1] * 5


DOCUMENT = {"id": 7, "a": {"b": [10, 11, 12, 13]}, "odd name": "x", "list": [{"n": 1}, {"n": 2}]}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", DOCUMENT),
        ("$.id", 7),
        ("$.a.b", [10, 11, 12, 13]),
        ("$.a.b[0]", 10),
        ("$.a.b[-1]", 13),
        ("$.a.b[0,2]", [10, 12]),
        ("$.a.b[1:2]", [11, 12]),
        ("$.a.b[:1]", [10, 11]),
        ("$.a.b[2:]", [12, 13]),
        ("$.a.b[0,2:]", [10, 12, 13]),
        ("$.a.b[-2:]", [12, 13]),
        ("$['odd name']", "x"),
        ('$["odd name"]', "x"),
        ("$['id','odd name']", {"id": 7, "odd name": "x"}),
        ("$.list[*].n", [1, 2]),
        ("$.list.*.n", [1, 2]),
        ("$.list.[0].['n']", 1),
    ],
)
def test_paths_select_what_aws_documents(path: str, expected: Any) -> None:
    assert JsonPath.parse(path).select(DOCUMENT) == expected


@pytest.mark.parametrize(
    "path", ["", "id", "$.", "$..id", "$[?(@.id)]", "$.a.length()", "$['a'", "$[1:2:3]", "$[]", "$ "]
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"JSONPath|index"):
        JsonPath.parse(path)


@pytest.mark.parametrize(
    "path", ["$.none", "$.a.b[4]", "$.a.b[-5]", "$.a.b[1:4]", "$.id.x", "$.id[0]", "$.id.*", "$['id','z']"]
)
def test_what_a_path_does_not_find_is_an_error(path: str) -> None:
    with pytest.raises(ValueError, match=r"^\$"):
        JsonPath.parse(path).select(DOCUMENT)


@pytest.mark.parametrize("path", ["$" + "[0,0,0,0]" * 6, "$" + "[:,:]" * 12, "$.a['b','b'][0]"])
def test_a_path_cannot_multiply_a_record(path: str) -> None:
    nested: Any = {"a": {"b": [1]}}
    if path.startswith("$["):
        nested = "text" * 1000
        for _ in range(12):
            nested = [nested]
    with pytest.raises(ValueError, match="chosen twice"):
        JsonPath.parse(path).select(nested)


def processing(kind: str = "text/csv", by_line: bool = True, ids: bool = False, **given: str) -> DataProcessing:
    line = "Line" if by_line else "None"
    request = {
        "TransformInput": {"ContentType": kind, "SplitType": line},
        "TransformOutput": {"Accept": kind, "AssembleWith": line},
        "DataProcessing": given,
        "DataCaptureConfig": {"GenerateInferenceId": ids},
    }
    return DataProcessing.of(request, started=0.0)


def body(*lines: bytes) -> Body:
    (made,) = records.pack(lines, several=True, max_bytes=0)
    return made


def test_csv_is_filtered_joined_and_filtered() -> None:
    job = processing(InputFilter="$[1:]", JoinSource="Input", OutputFilter="$[0,-1]")
    rows = (b'a,"x, y",2\r\n', b"\n", b"b,3,4")
    assert b"".join(job.ask(row) for row in rows if row.strip()) == b'"x, y",2\n3,4\n'
    assert job.answer(body(*rows), b"0.5\n0.25\n") == b"a,0.5\nb,0.25\n"


def test_json_lines_are_filtered_joined_and_filtered() -> None:
    job = processing(
        "application/jsonlines; charset=utf-8",
        InputFilter="$.features",
        JoinSource="Input",
        OutputFilter="$['id','SageMakerOutput']",
    )
    lines = (b'{"id": 1, "features": [1, 2]}\n', b'{"id": "z", "features": [3]}\n')
    assert b"".join(job.ask(line) for line in lines) == b"[1,2]\n[3]\n"
    joined = b'{"id":1,"SageMakerOutput":{"label":"a"}}\n{"id":"z","SageMakerOutput":{"label":"b"}}\n'
    assert job.answer(body(*lines), b'{"label": "a"}\n{"label": "b"}') == joined


def test_json_that_is_no_object_is_joined_under_a_name() -> None:
    job = processing("application/json", by_line=False, JoinSource="Input")
    assert job.answer(body(b"[1,\n2]"), b'{\n"label": 1}') == b'{"SageMakerInput":[1,2],"SageMakerOutput":{"label":1}}'


def test_inference_ids_are_appended_to_every_answer() -> None:
    lines = processing("application/jsonlines", ids=True).answer(body(b"[1]\n", b"[2]\n"), b'{"x":1}\n2\n').splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first["SageMakerInferenceTime"] == "1970-01-01T00:00:00Z"
    assert first["SageMakerInferenceId"] != second["SageMakerInferenceId"]
    assert (first["x"], second["SageMakerOutput"]) == (1, 2)
    *row, identifier, time = processing(ids=True).answer(body(b"1,2\n"), b"0.5\n").decode().strip().split(",")
    assert (row, len(identifier), time) == (["0.5"], 36, "1970-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("record", "answer", "said"),
    [
        (b"a,b\n", b"1\n2\n", "2 lines answer 1 records"),
        (b'"a,b\n', b"1\n", "not a row of a CSV file"),
        (b"\xff\n", b"1\n", "not a row of a CSV file"),
        (b"a\n", b"1\n", "there is no element 2; there are 2 elements"),
    ],
)
def test_answers_that_cannot_be_joined_are_named(record: bytes, answer: bytes, said: str) -> None:
    with pytest.raises(BadRecordError, match=said):
        processing(JoinSource="Input", OutputFilter="$[2]").answer(body(record), answer)


def test_reading_stays_within_its_budget(tmp_path: Path) -> None:
    """While no answer comes, no more is read than the budget has room for, however large the object is."""
    line, answers, read = b"x" * 1023 + b"\n", list[concurrent.futures.Future[httpx.Response]](), 0

    class Store:
        written = b""

        def stream(self, uri: str) -> tuple[int, Iterator[bytes]]:
            return 0, self.chunks()

        def chunks(self) -> Iterator[bytes]:
            nonlocal read
            for _ in range(64):
                read += 2**20
                yield line * 1024

        def write_file(self, file: Any, uri: str, content_type: str) -> None:
            file.seek(0)
            self.written = file.read()

    class Client:
        def ask(self, content: bytes) -> concurrent.futures.Future[httpx.Response]:
            answers.append(concurrent.futures.Future())
            asked.release()
            return answers[-1]

    asked, store = threading.Semaphore(0), Store()
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/"}}
    request = {
        "TransformInput": {"DataSource": source, "SplitType": "Line"},
        "TransformOutput": {"S3OutputPath": "s3://b/out"},
    }
    parameters = Parameters(max_concurrent=1, max_payload_mb=1, several_records=True)
    instance = Instance(
        objects=cast(ObjectStore, store),
        client=cast(ModelClient, Client()),
        request=request,
        parameters=parameters,
        processing=DataProcessing.of(request, started=0.0),
        budget=Budget(4 * 2**20),
        folder=tmp_path,
        stop=threading.Event(),
    )
    thread = threading.Thread(target=instance.transform, args=(Object("b", "k", "k"),))
    thread.start()
    for number in range(64):
        assert asked.acquire(timeout=PATIENCE_S)
        if number >= 3:
            assert read <= (number + 2) * 2**20
            answers[number - 3].set_result(httpx.Response(200, content=b"%d," % (number - 3)))
    for number in (61, 62, 63):
        answers[number].set_result(httpx.Response(200, content=b"%d," % number))
    thread.join(PATIENCE_S)
    assert store.written == b"".join(b"%d," % number for number in range(64))
