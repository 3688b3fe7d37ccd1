"""Batch transform: one request per object, outputs named as SageMaker names them, ends told truthfully."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from local_sagemaker.jobs.transform_job import output_key
from local_sagemaker.s3 import Object
from tests.local_sagemaker.harness import BUCKET, Server, has_ended
from tests.local_sagemaker.serving import create_model, unique, write_image_map


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


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
    found = outputs(server, name)
    assert {key: item["bytes"] for key, item in found.items()} == {"a/1.png.out": 3, "a/2.png.out": 5, "b/1.png.out": 1}
    seen = found["a/1.png.out"]
    assert (seen["headers"]["content-type"], seen["headers"]["accept"]) == ("application/x-image", "application/json")
    assert seen["environment"].items() >= {
        "SAGEMAKER_BATCH": "true", "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "2", "MY_SETTING": "job", "MY_OTHER": "kept",
    }.items()  # fmt: skip
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
    uri = put(server, "slow", {"1.png": b"quick", "2.png": b"sleep 60"})
    name = start(server, model, uri, MaxConcurrentTransforms=2)
    while not (found := outputs(server, name)):
        time.sleep(0.05)
    server.sagemaker.stop_transform_job(TransformJobName=name)
    assert wait(server, name)["TransformJobStatus"] == "Stopped"
    assert has_ended(found["1.png.out"]["pid"])
    server.sagemaker.stop_transform_job(TransformJobName=name)
    assert server.sagemaker.describe_transform_job(TransformJobName=name)["TransformJobStatus"] == "Stopped"


def test_350_small_objects_take_seconds(server: Server, model: str) -> None:
    uri = put(server, "many", {f"{number}.png": b"x" for number in range(350)})
    began = time.monotonic()
    name = start(server, model, uri)
    assert wait(server, name)["TransformJobStatus"] == "Completed"
    assert time.monotonic() - began < 20
    listed = server.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"out/{name}/")["Contents"]
    assert len(listed) == 350


def test_what_is_not_done_yet_is_refused(server: Server, model: str) -> None:
    source = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/any/"}}}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"TransformInput": {**source, "SplitType": "Line"}}, "TransformInput.SplitType: local_sagemaker does not"),
        ({"TransformInput": {**source, "CompressionType": "Gzip"}}, "TransformInput.CompressionType"),
        ({"DataProcessing": {"OutputFilter": "$.label"}}, "DataProcessing"),
        ({"MaxConcurrentTransforms": 20, "MaxPayloadInMB": 6}, "MaxConcurrentTransforms * MaxPayloadInMB is 120"),
        ({"ModelName": "none"}, 'Could not find model "arn:'),
    ]
    for changes, message in cases:
        answer = refusal(server, model, **changes)
        assert answer["Code"] == "ValidationException"
        assert answer["Message"].startswith(message)


def test_names_are_unique_and_unknown_ones_are_named(server: Server, model: str) -> None:
    name = start(server, model, f"s3://{BUCKET}/empty/")
    assert refusal(server, model, TransformJobName=name)["Code"] == "ResourceInUse"
    with pytest.raises(botocore.exceptions.ClientError, match="Could not find requested job"):
        server.sagemaker.describe_transform_job(TransformJobName="nobody")


def test_restarted_server_begins_the_job_anew(make_server: Callable[..., Server]) -> None:
    server = make_server()
    uri = put(server, "again", {"1.png": b"quick", "2.png": b"sleep 3"})
    name = start(server, create_model(server, version=1), uri, MaxConcurrentTransforms=2)
    while not (first := outputs(server, name)):
        time.sleep(0.05)
    server.stop(signal.SIGKILL)
    server.start()
    assert wait(server, name)["TransformJobStatus"] == "Completed"
    again = outputs(server, name)
    assert set(again) == {"1.png.out", "2.png.out"}
    assert again["1.png.out"]["pid"] != first["1.png.out"]["pid"]
    assert has_ended(first["1.png.out"]["pid"])
