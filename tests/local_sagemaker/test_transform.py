"""Batch transform: what is sent, outputs named and assembled as SageMaker does it, ends told truthfully."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from local_sagemaker.s3 import Object
from local_sagemaker.transform.object_transform import output_key
from tests.local_sagemaker.harness import BUCKET, OWN_CORES, ROLE, Server, error, has_ended
from tests.local_sagemaker.serving import SERVING_IMAGE, create_model, put_model, unique, write_image_map
from tests.waiting import wait_until

BATCH_IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/batch:1"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_image_map(tmp_path_factory.mktemp("images"))
    program = Path(__file__).with_name("batch_server.py")
    entry = f'[[image]]\nmatch = ["*/batch:*"]\ninterpreter = "{sys.executable}"\nserve = ["{program}"]\n'
    path.write_text(path.read_text() + entry)
    return path


@pytest.fixture(scope="module")
def model(server: Server) -> str:
    return create_model(server, {"MY_SETTING": "model", "MY_OTHER": "kept"}, version=1)


def put(server: Server, folder: str, objects: dict[str, bytes]) -> str:
    for key, body in objects.items():
        server.s3.put_object(Bucket=BUCKET, Key=f"{folder}/{key}", Body=body)
    return f"s3://{BUCKET}/{folder}/"


def start(server: Server, model: str, uri: str, kind: str = "S3Prefix", **changes: Any) -> str:
    name = unique("Job")
    request: dict[str, Any] = {
        "TransformJobName": name,
        "ModelName": model,
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": uri}},
            "ContentType": "application/x-image",
        },
        "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/out/{name}", "Accept": "application/json"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    server.sagemaker.create_transform_job(**(request | changes))
    return name


def batch_model(server: Server, **environment: str) -> str:
    """A model of batch_server.py."""
    name = unique("Batch")
    container = {"Image": BATCH_IMAGE, "Environment": environment}
    server.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    return name


def by_line(uri: str, kind: str = "text/csv", **source: str) -> dict[str, Any]:
    """The members of a request that sends lines and writes lines."""
    data = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}
    return {
        "TransformInput": {"DataSource": data, "ContentType": kind, "SplitType": "Line", **source},
        "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/out/{unique('l')}", "Accept": kind, "AssembleWith": "Line"},
    }


def run(server: Server, model: str, request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The last description of a job and what it wrote."""
    answer = wait(server, start(server, model, "s3://unused/", **request))
    prefix = answer["TransformOutput"]["S3OutputPath"].removeprefix(f"s3://{BUCKET}/") + "/"
    listed = server.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return answer, {
        item["Key"].removeprefix(prefix): server.s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
        for item in listed
    }


def wait(server: Server, name: str) -> dict[str, Any]:
    return server.wait(lambda: server.sagemaker.describe_transform_job(TransformJobName=name), "TransformJobStatus")


def outputs(server: Server, name: str) -> dict[str, Any]:
    listed = server.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"out/{name}/").get("Contents", [])
    keys = {item["Key"].removeprefix(f"out/{name}/"): item["Key"] for item in listed}
    return {
        short: json.loads(server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()) for short, key in keys.items()
    }


def refusal(server: Server, model: str, **changes: Any) -> dict[str, Any]:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        start(server, model, f"s3://{BUCKET}/any/", **changes)
    answer: dict[str, Any] = caught.value.response["Error"]
    return answer


def test_prefix_keeps_sub_folders_and_model_settings(server: Server, model: str) -> None:
    uri = put(server, "images", {"a/1.png": b"one", "a/2.png": b"three", "b/1.png": b"x"})
    name = start(server, model, uri, MaxConcurrentTransforms=2, Environment={"MY_SETTING": "job"})
    answer = wait(server, name)
    assert answer["TransformJobStatus"] == "Completed"
    assert answer["TransformStartTime"] <= answer["TransformEndTime"]
    assert answer["DataProcessing"] == {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    assert (answer["TransformInput"]["SplitType"], answer["TransformOutput"]["AssembleWith"]) == ("None", "None")
    found = outputs(server, name)
    assert {key: item["bytes"] for key, item in found.items()} == {"a/1.png.out": 3, "a/2.png.out": 5, "b/1.png.out": 1}
    seen = found["a/1.png.out"]
    assert (seen["headers"]["content-type"], seen["headers"]["accept"]) == ("application/x-image", "application/json")
    assert seen["environment"].items() >= {
        "SAGEMAKER_BATCH": "true", "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "2", "MY_SETTING": "job", "MY_OTHER": "kept",
    }.items()  # fmt: skip
    assert "SAGEMAKER_BATCH_STRATEGY" not in seen["environment"]
    listed = server.sagemaker.list_transform_jobs(NameContains=name)["TransformJobSummaries"]
    assert [item["TransformJobStatus"] for item in listed] == ["Completed"]


def test_manifest_outputs_are_named_by_its_entries(server: Server, model: str) -> None:
    uri = put(server, "listed", {"x/1.png": b"1", "x/2.png": b"22", "x/not.png": b"0"})
    manifest = json.dumps([{"prefix": uri}, "x/1.png", "x/2.png"]).encode()
    server.s3.put_object(Bucket=BUCKET, Key="test.manifest", Body=manifest)
    name = start(server, model, f"s3://{BUCKET}/test.manifest", "ManifestFile")
    assert wait(server, name)["TransformJobStatus"] == "Completed"
    assert set(outputs(server, name)) == {"x/1.png.out", "x/2.png.out"}


@pytest.mark.parametrize(
    ("prefix", "key", "expected"),
    [
        ("in/images/", "in/images/a/1.png", "a/1.png.out"),
        ("in/img", "in/img1.png", "img1.png.out"),
        ("in/img", "in/img/2.png", "img/2.png.out"),
        ("in/1.png", "in/1.png", "1.png.out"),
        ("", "in/1.png", "in/1.png.out"),
    ],
)
def test_output_key_drops_the_directory_part(prefix: str, key: str, expected: str) -> None:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://b/{prefix}"}
    assert (
        output_key(Object("b", key, "unused"), {"TransformInput": {"DataSource": {"S3DataSource": source}}}) == expected
    )


def test_bad_record_fails_the_job_and_keeps_the_others(server: Server, model: str) -> None:
    uri = put(server, "mixed", {"1.png": b"good", "2.png": b"unsupported", "3.png": b"good"})
    name = start(server, model, uri)
    answer = wait(server, name)
    assert answer["TransformJobStatus"] == "Failed"
    assert answer["FailureReason"].startswith("ClientError: See job logs for more information. 1 of 3 objects")
    assert f"{uri}2.png: 415" in answer["FailureReason"]
    assert set(outputs(server, name)) == {"1.png.out", "3.png.out"}
    streams = server.logs.describe_log_streams(logGroupName="/aws/sagemaker/TransformJobs", logStreamNamePrefix=name)
    assert any(stream["logStreamName"].endswith("/data-log") for stream in streams["logStreams"])


def test_oversize_object_is_not_sent(server: Server, model: str) -> None:
    uri = put(server, "large", {"1.png": bytes(2**20 + 1)})
    answer = wait(server, start(server, model, uri, MaxPayloadInMB=1))
    assert "413: its 1048577 bytes are over MaxPayloadInMB (1)" in answer["FailureReason"]


@pytest.mark.parametrize(("kind", "compression"), [("S3Prefix", "None"), ("S3Object", "None"), ("S3Object", "Gzip")])
def test_model_data_source_is_not_transformed(server: Server, kind: str, compression: str) -> None:
    """SageMaker's API reference says so of every ModelDataSource."""
    name, uri = unique("Model"), put_model(server, version=1)
    place = uri if kind == "S3Object" else f"{uri.rpartition('/')[0]}/"
    source = {"S3Uri": place, "S3DataType": kind, "CompressionType": compression}
    container = {"Image": SERVING_IMAGE, "ModelDataSource": {"S3DataSource": source}}
    server.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    problem = error(lambda: start(server, name, f"s3://{BUCKET}/any/"))
    assert "has a ModelDataSource, which cannot be used with batch transform" in problem["Message"]


def test_no_objects_fail_the_job(server: Server, model: str) -> None:
    answer = wait(server, start(server, model, f"s3://{BUCKET}/empty/"))
    assert answer["TransformJobStatus"] == "Failed"
    assert answer["FailureReason"].startswith("ClientError: No S3 objects found under S3 URL")


def test_model_server_that_dies_fails_the_job_at_once(server: Server, model: str) -> None:
    uri = put(server, "deadly", {"1.png": b"crash"})
    answer = wait(server, start(server, model, uri))
    assert answer["FailureReason"].startswith("AlgorithmError: the model server ended with exit code 3")


def test_model_that_cannot_start_fails_with_its_last_words(server: Server) -> None:
    uri = put(server, "unused", {"1.png": b"1"})
    answer = wait(server, start(server, create_model(server, version=1, start="fail"), uri))
    assert "no such weights: model.pth" in answer["FailureReason"]


def test_stop_ends_the_process_and_keeps_what_is_done(server: Server, model: str) -> None:
    uri = put(server, "slow", {"1.png": b"quick", "2.png": b"sleep 600"})
    name = start(server, model, uri, MaxConcurrentTransforms=2)
    found = wait_until(lambda: outputs(server, name), server.log)
    server.sagemaker.stop_transform_job(TransformJobName=name)
    assert wait(server, name)["TransformJobStatus"] == "Stopped"
    assert has_ended(found["1.png.out"]["pid"])
    said = error(lambda: server.sagemaker.stop_transform_job(TransformJobName=name))
    assert said["Message"] == "The request was rejected because the transform job is in status Stopped."


def test_every_one_of_many_small_objects_has_its_output(server: Server, model: str) -> None:
    uri = put(server, "many", {f"{number}.png": b"x" for number in range(350)})
    name = start(server, model, uri)
    assert wait(server, name)["TransformJobStatus"] == "Completed"
    listed = server.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"out/{name}/")["Contents"]
    assert len(listed) == 350


def test_lines_are_packed_sent_again_and_assembled_in_order(server: Server) -> None:
    """The second line is refused with a 503 once: a failure is tried again, and the order stays."""
    lines = b"".join(b"%d,%s\n" % (number, b"FLAKY" if number == 1 else b"x") for number in range(40))
    uri = put(server, "lines", {"a/data.csv": lines, "empty.csv": b""})
    request = by_line(uri) | {"BatchStrategy": "SingleRecord", "MaxConcurrentTransforms": 4}
    model = batch_model(server, MODE="bodies")
    _, written = run(server, model, request)
    answers = [json.loads(line) for line in written["a/data.csv.out"].splitlines()]
    assert [answer["text"] for answer in answers] == lines.decode().splitlines(keepends=True)
    assert written["empty.csv.out"] == b""
    _, written = run(server, model, by_line(uri) | {"BatchStrategy": "MultiRecord"})
    (answer,) = [json.loads(line) for line in written["a/data.csv.out"].splitlines()]
    assert (answer["lines"], answer["bytes"]) == (40, len(lines))


def test_bodies_of_many_records_stay_under_the_payload_limit(server: Server) -> None:
    uri = put(server, "packed", {"data.csv.gz": gzip.compress((b"x" * 999 + b"\n") * 3000)})
    request = by_line(uri, CompressionType="Gzip") | {"MaxPayloadInMB": 1, "BatchStrategy": "MultiRecord"}
    answer, written = run(server, batch_model(server), request)
    sizes = [json.loads(line)["bytes"] for line in written["data.csv.gz.out"].splitlines()]
    assert sizes == [1048000, 1048000, 904000]
    assert answer["TransformJobStatus"] == "Completed"


def test_csv_rows_are_joined_with_their_answers(server: Server) -> None:
    uri = put(server, "joined", {"data.csv": b"id1,1,2\nid2,3,4\n\n"})
    filters = {"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-2]"}
    _, written = run(server, batch_model(server, MODE="csv"), by_line(uri) | {"DataProcessing": filters})
    assert written == {"data.csv.out": b"id1,2\nid2,2\n"}


def test_json_lines_are_joined_and_captured(server: Server) -> None:
    uri = put(server, "joined-json", {"x/data.jsonl": b'{"id":"a","f":[1,2]}\n{"id":"b","f":[3]}\n'})
    capture = f"captured/{unique('c')}"
    request = by_line(uri, "application/jsonlines") | {
        "DataProcessing": {"InputFilter": "$.f", "JoinSource": "Input", "OutputFilter": "$['id','SageMakerOutput']"},
        "DataCaptureConfig": {"DestinationS3Uri": f"s3://{BUCKET}/{capture}", "GenerateInferenceId": True},
    }
    answer, written = run(server, batch_model(server, MODE="json"), request)
    first, second = (json.loads(line) for line in written["x/data.jsonl.out"].splitlines())
    assert (first["id"], first["SageMakerOutput"], second["SageMakerOutput"]) == ("a", {"sum": 3}, {"sum": 3})
    assert first["SageMakerInferenceTime"] == f"{answer['CreationTime']:%Y-%m-%dT%H:%M:%SZ}"
    hour = f"{answer['CreationTime']:%Y/%m/%d/%H}"
    keys = [f"{capture}/{kind}/{hour}/{answer['TransformJobName']}.jsonl" for kind in ("input", "output")]
    manifests = [json.loads(server.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()) for key in keys]
    assert manifests[0] == [{"prefix": f"s3://{BUCKET}/"}, "joined-json/x/data.jsonl"]
    assert manifests[1] == [{"prefix": answer["TransformOutput"]["S3OutputPath"] + "/"}, "x/data.jsonl.out"]


def test_one_bad_record_leaves_no_output_of_its_object(server: Server) -> None:
    uri = put(server, "bad-lines", {"1.csv": b"a\nb\n", "2.csv": b"a\nBAD\nc\n", "3.csv": b"x\n"})
    answer, written = run(server, batch_model(server), by_line(uri) | {"BatchStrategy": "SingleRecord"})
    assert answer["TransformJobStatus"] == "Failed"
    assert f"1 of 3 objects got no answer, the first one {uri}2.csv: 400: bad record" in answer["FailureReason"]
    assert set(written) == {"1.csv.out", "3.csv.out"}


def test_model_server_chooses_what_the_request_leaves_open(server: Server) -> None:
    uri = put(server, "chosen", {"data.csv": b"1\n2\n"})
    offered = '{"MaxConcurrentTransforms": 2, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 3}'
    model = batch_model(server, EXECUTION_PARAMETERS=offered)
    _, written = run(server, model, by_line(uri))
    assert len(written["data.csv.out"].splitlines()) == 2
    _, written = run(server, model, by_line(uri) | {"BatchStrategy": "MultiRecord"})
    assert len(written["data.csv.out"].splitlines()) == 1
    for most, payload in ((200, 3), (2**31 - 1, 0)):  # each is a thread, also where nothing is in memory
        offered = json.dumps({"MaxConcurrentTransforms": most, "MaxPayloadInMB": payload})
        answer, _ = run(server, batch_model(server, EXECUTION_PARAMETERS=offered), by_line(uri))
        assert "MaxConcurrentTransforms (1 to 100) * MaxPayloadInMB must be at most 100" in answer["FailureReason"]


def test_unlimited_payload_is_sent_in_chunks(server: Server) -> None:
    uri = put(server, "chunks", {"1.bin": b"x" * (3 * 2**20)})
    name = start(server, batch_model(server), uri, MaxPayloadInMB=0)
    assert wait(server, name)["TransformJobStatus"] == "Completed"
    (seen,) = outputs(server, name).values()
    assert (seen["chunked"], seen["bytes"]) == (True, 3 * 2**20)


def test_unlimited_payload_does_not_unpack_without_end(server: Server) -> None:
    """A small gzip of one line, of which many would fill the memory of this server."""
    uri = put(server, "bomb", {"1.csv.gz": gzip.compress(b"0" * (101 * 2**20)), "2.csv.gz": gzip.compress(b"1\n")})
    request = by_line(uri, CompressionType="Gzip") | {"MaxPayloadInMB": 0, "BatchStrategy": "SingleRecord"}
    answer, written = run(server, batch_model(server), request)
    assert f"the first one {uri}1.csv.gz: 413: record 1 is over" in answer["FailureReason"]
    assert set(written) == {"2.csv.gz.out"}


@pytest.mark.parametrize("count", [2, 2**31 - 1])
def test_several_instances_are_several_model_servers(server: Server, count: int) -> None:
    uri = put(server, "spread", {f"{number}.bin": b"x" for number in range(30)})
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": count}
    name = start(server, batch_model(server), uri, TransformResources=resources)
    assert wait(server, name)["TransformJobStatus"] == "Completed"
    found = outputs(server, name)
    assert len(found) == 30
    assert len({seen["pid"] for seen in found.values()}) == (2 if OWN_CORES else min(2, len(os.sched_getaffinity(0))))


LINE = {"SplitType": "Line", "ContentType": "text/csv"}
NONE = {"ContentType": "application/json"}
JOIN = {"JoinSource": "Input"}


@pytest.mark.parametrize(
    ("source", "target", "changes", "said"),
    [
        (
            {},
            {},
            {"MaxConcurrentTransforms": 20, "MaxPayloadInMB": 6},
            "MaxConcurrentTransforms * MaxPayloadInMB is 120;",
        ),
        ({}, {}, {"MaxPayloadInMB": 101}, "MaxPayloadInMB is 101; it must be at most 100"),
        (
            {},
            {},
            {"MaxConcurrentTransforms": 2**31 - 1, "MaxPayloadInMB": 0},
            "MaxConcurrentTransforms is 2147483647; it must be at most 100",
        ),
        ({}, {}, {"ModelName": "none"}, 'Could not find model "arn:'),
        ({"S3DataType": "AugmentedManifestFile"}, {}, {}, "S3DataType AugmentedManifestFile cannot be used"),
        ({}, {}, {"DataProcessing": {"OutputFilter": "$..label"}}, "JSONPath '$..label': '..label' is not understood"),
        ({}, {}, {"DataProcessing": {"InputFilter": "label"}}, "'label' is not a JSONPath: it must start with $"),
        ({}, {}, {"DataProcessing": JOIN}, "DataProcessing works on text/csv, application/json and"),
        (NONE, {}, {"DataProcessing": JOIN}, "DataProcessing works on text/csv, application/json and"),
        (LINE, {"Accept": "text/csv"}, {"DataProcessing": JOIN}, "DataProcessing of text/csv needs SplitType Line and"),
        (
            LINE,
            {"Accept": "application/json", "AssembleWith": "Line"},
            {"DataProcessing": JOIN},
            "JoinSource Input joins CSV",
        ),
        (
            LINE,
            {"Accept": "text/csv", "AssembleWith": "Line"},
            {"DataProcessing": {"InputFilter": "$.a"}},
            "JSONPath '$.a': a row",
        ),
        (
            NONE | {"SplitType": "Line"},
            {"Accept": "application/json"},
            {"DataProcessing": JOIN},
            "DataProcessing needs SplitType and",
        ),
        (
            NONE | {"SplitType": "TFRecord"},
            {"Accept": "application/json"},
            {"DataProcessing": JOIN},
            "DataProcessing works on",
        ),
        (
            {},
            {},
            {"DataCaptureConfig": {"DestinationS3Uri": "s3://b/c", "GenerateInferenceId": True}},
            "DataCaptureConfig.Gen",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_starts(
    server: Server, model: str, source: dict[str, str], target: dict[str, str], changes: dict[str, Any], said: str
) -> None:
    data = {"S3DataType": source.get("S3DataType", "S3Prefix"), "S3Uri": f"s3://{BUCKET}/any/"}
    given = {key: value for key, value in source.items() if key != "S3DataType"}
    request = {
        "TransformInput": {"DataSource": {"S3DataSource": data}, **given},
        "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/out", **target},
    }
    answer = refusal(server, model, **(request | changes))
    assert answer["Code"] == "ValidationException"
    assert answer["Message"].startswith(said)


def test_names_are_unique_and_unknown_ones_are_named(server: Server, model: str) -> None:
    name = start(server, model, f"s3://{BUCKET}/empty/")
    assert refusal(server, model, TransformJobName=name)["Code"] == "ResourceInUse"
    with pytest.raises(botocore.exceptions.ClientError, match="Could not find requested job"):
        server.sagemaker.describe_transform_job(TransformJobName="nobody")


def test_restarted_server_begins_the_job_anew(make_server: Callable[..., Server]) -> None:
    server = make_server()
    uri = put(server, "again", {"1.png": b"quick", "2.png": b"sleep 3"})
    name = start(server, create_model(server, version=1), uri, MaxConcurrentTransforms=2)
    first = wait_until(lambda: outputs(server, name), server.log)
    server.stop(signal.SIGKILL)
    server.start()
    assert wait(server, name)["TransformJobStatus"] == "Completed"
    again = outputs(server, name)
    assert set(again) == {"1.png.out", "2.png.out"}
    assert again["1.png.out"]["pid"] != first["1.png.out"]["pid"]
    assert has_ended(first["1.png.out"]["pid"])


def test_an_answer_without_end_fails_its_object_only(server: Server) -> None:
    """What a container may send is bounded: it is in the memory of this server."""
    uri = put(server, "endless", {"1.csv": b"a\n", "2.csv": b"ENDLESS\n"})
    request = by_line(uri) | {"MaxConcurrentTransforms": 50, "MaxPayloadInMB": 2}
    answer, written = run(server, batch_model(server, MODE="csv"), request)
    assert f"1 of 2 objects got no answer, the first one {uri}2.csv: an answer of more than " in answer["FailureReason"]
    assert set(written) == {"1.csv.out"}
