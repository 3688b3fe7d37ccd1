"""Data capture: what is written to S3 of an endpoint's requests and answers, and what survives a death."""

from __future__ import annotations

import base64
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest

from local_sagemaker.hosting.data_capture import Captured, DataCapture
from local_sagemaker.hosting.payload import Payload
from local_sagemaker.s3 import ObjectStore
from local_sagemaker.settings import Settings
from tests.local_sagemaker.gate import Gate
from tests.local_sagemaker.harness import BUCKET, Server
from tests.local_sagemaker.serving import create_config, create_model, deploy, invoke, unique, write_image_map
from tests.object_store import CLIENT, KEY_ID, SECRET, free_ports
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def gate(s3_endpoint: str) -> Iterator[Gate]:
    gate = Gate(s3_endpoint)
    yield gate
    gate.close()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, gate: Gate, images: Path) -> Iterator[Server]:
    """A server for the tests that stop it, or its way to S3."""
    server = Server(tmp_path_factory.mktemp("mortal"), free_ports(1)[0], gate.url, images)
    server.start()
    yield server
    server.stop()


def capturing(
    server: Server, modes: tuple[str, ...] = ("Input", "Output"), percentage: int = 100, **members: Any
) -> tuple[str, str]:
    """An endpoint and the prefix below which its captures lie."""
    prefix = unique("capture")
    config = {
        "EnableCapture": True, "InitialSamplingPercentage": percentage,
        "DestinationS3Uri": f"s3://{BUCKET}/{prefix}", "CaptureOptions": [{"CaptureMode": mode} for mode in modes],
    } | members  # fmt: skip
    model = create_model(server, version=1)
    return deploy(server, create_config(server, model, DataCaptureConfig=config)), f"{prefix}/"


def keys(client: Any, prefix: str) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]


def records(client: Any, prefix: str) -> list[dict[str, Any]]:
    bodies = [client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys(client, prefix)]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def await_records(client: Any, prefix: str, count: int) -> list[dict[str, Any]]:
    def enough() -> list[dict[str, Any]]:
        found = records(client, prefix)
        return found if len(found) >= count else []

    return wait_until(enough, lambda: f"{len(records(client, prefix))} of {count}", every_s=0.1)


def test_records_are_sagemakers(server: Server) -> None:
    name, prefix = capturing(
        server,
        CaptureContentTypeHeader={"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
    )
    picture = bytes(range(256))
    invoke(server, name, picture, ContentType="image/jpeg", InferenceId="mine", CustomAttributes="trace=1")
    (record,) = await_records(server.s3, prefix, 1)
    assert record["captureData"]["endpointInput"] == {
        "observedContentType": "image/jpeg", "mode": "INPUT", "data": base64.b64encode(picture).decode(),
        "encoding": "BASE64",
    }  # fmt: skip
    output = record["captureData"]["endpointOutput"]
    assert (output["observedContentType"], output["mode"], output["encoding"]) == ("application/json", "OUTPUT", "JSON")
    assert json.loads(output["data"])["version"] == 1
    metadata = record["eventMetadata"]
    assert re.fullmatch(r"[0-9a-f-]{36}", metadata["eventId"])
    assert (metadata["inferenceId"], metadata["customAttributes"]) == ("mine", ["trace=1"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["inferenceTime"])
    assert record["eventVersion"] == "0"
    (key,) = keys(server.s3, prefix)
    folder = rf"{prefix}{name}/AllTraffic/\d{{4}}/\d\d/\d\d/\d\d"
    assert re.fullmatch(rf"{folder}/\d\d-\d\d-\d{{3}}-[0-9a-f-]{{36}}\.jsonl", key)
    shown = server.sagemaker.describe_endpoint(EndpointName=name)["DataCaptureConfig"]
    assert (shown["CaptureStatus"], shown["KmsKeyId"]) == ("Started", "")
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_each_side_is_captured_when_asked_for(server: Server) -> None:
    """And base64 is what there is without configured content types."""
    endpoints = {modes: capturing(server, modes) for modes in (("Input",), ("Output",), ("InputAndOutput",))}
    expected = {"Input": {"endpointInput"}, "Output": {"endpointOutput"}}
    for name, _ in endpoints.values():
        invoke(server, name, b"a,b", ContentType="text/csv")
    for (mode,), (name, prefix) in endpoints.items():
        (record,) = await_records(server.s3, prefix, 1)
        data = record["captureData"]
        assert set(data) == expected.get(mode, {"endpointInput", "endpointOutput"})
        assert {side["encoding"] for side in data.values()} == {"BASE64"}
        server.sagemaker.delete_endpoint(EndpointName=name)


def test_sample_is_as_large_as_asked_and_errors_are_left_out(server: Server) -> None:
    (half, half_prefix), (none, none_prefix) = capturing(server, percentage=50), capturing(server, percentage=0)
    (off, off_prefix), (all_, all_prefix) = capturing(server, EnableCapture=False), capturing(server)
    for _ in range(100):
        invoke(server, half)
    for name in (none, off, all_):
        invoke(server, name)
        with pytest.raises(botocore.exceptions.ClientError):
            invoke(server, name, b"broken")
    invoke(server, all_)
    assert len(await_records(server.s3, all_prefix, 2)) == 2
    assert 20 < len(await_records(server.s3, half_prefix, 21)) < 80  # outside of it once in 10^9 runs
    assert records(server.s3, none_prefix) == records(server.s3, off_prefix) == []
    for name in (half, none, off, all_):
        server.sagemaker.delete_endpoint(EndpointName=name)


def test_streamed_answers_are_captured_whole(server: Server) -> None:
    name, prefix = capturing(server, CaptureContentTypeHeader={"CsvContentTypes": ["text/plain"]})
    answer = server.runtime.invoke_endpoint_with_response_stream(EndpointName=name, Body=b"parts 3 0.01")
    assert len([*answer["Body"]]) >= 1
    (record,) = await_records(server.s3, prefix, 1)
    assert record["captureData"]["endpointOutput"] == {
        "observedContentType": "text/plain", "mode": "OUTPUT", "data": "part 0;part 1;part 2;", "encoding": "CSV",
    }  # fmt: skip
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_unreachable_destination_fails_no_invocation(server: Server) -> None:
    name, _ = capturing(server, DestinationS3Uri="s3://no-such-bucket/capture")
    assert [invoke(server, name)["version"] for _ in range(3)] == [1, 1, 1]
    wait_until(lambda: "captured data is kept in" in server.log(), server.log, every_s=0.1)
    assert invoke(server, name)["version"] == 1
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_asynchronous_invocations_are_captured(server: Server) -> None:
    prefix = unique("capture")
    capture = {
        "InitialSamplingPercentage": 100, "DestinationS3Uri": f"s3://{BUCKET}/{prefix}",
        "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
    }  # fmt: skip
    output = {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/{prefix}-out"}}
    model = create_model(server, version=1)
    name = deploy(server, create_config(server, model, DataCaptureConfig=capture, AsyncInferenceConfig=output))
    for body in (b"image", b"broken"):
        server.runtime.invoke_endpoint_async(EndpointName=name, Body=body, ContentType="image/png", InferenceId="mine")
    (record,) = await_records(server.s3, f"{prefix}/{name}/AllTraffic/", 1)
    assert base64.b64decode(record["captureData"]["endpointInput"]["data"]) == b"image"
    assert record["captureData"]["endpointOutput"]["observedContentType"] == "application/json"
    assert record["eventMetadata"]["inferenceId"] == "mine"
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_no_invocation_waits_for_s3(mortal: Server, gate: Gate, s3_endpoint: str) -> None:
    name, prefix = capturing(mortal)
    gate.opened.clear()
    began = time.monotonic()
    for _ in range(5):
        invoke(mortal, name)
        time.sleep(0.6)  # so that a delivery begins and hangs
    assert time.monotonic() - began < 30  # S3 did not answer at all
    gate.opened.set()
    assert len(await_records(boto3.client("s3", endpoint_url=s3_endpoint, **CLIENT), prefix, 5)) == 5
    mortal.sagemaker.delete_endpoint(EndpointName=name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_server_loses_no_record(mortal: Server, number: signal.Signals) -> None:
    """SIGTERM delivers before the end; after SIGKILL the next server does."""
    name, prefix = capturing(mortal)
    for _ in range(20):
        invoke(mortal, name)
    if number is signal.SIGKILL:
        time.sleep(0.2)  # records are kept after their answers were sent
    mortal.stop(number)
    if number is signal.SIGTERM:
        assert len(records(mortal.s3, prefix)) == 20
    mortal.start()
    assert len(await_records(mortal.s3, prefix, 20)) == 20
    assert not [*(mortal.root / "data-capture").iterdir()]
    mortal.sagemaker.delete_endpoint(EndpointName=name)


# -- without a server -------------------------------------------------------------------------------------------------


Capture = Callable[..., DataCapture]


@pytest.fixture
def capture(tmp_path: Path, s3_endpoint: str) -> Capture:
    def make(batch_s: float = 0.05) -> DataCapture:
        settings = Settings(root=tmp_path, access_key_id=KEY_ID, secret_access_key=SECRET, s3_endpoint=s3_endpoint)
        return DataCapture(tmp_path / "data-capture", ObjectStore(settings), batch_s=batch_s)

    return make


def captured(tmp_path: Path, body: bytes, content_type: str) -> Captured:
    request, answer = Payload(tmp_path), Payload(tmp_path)
    request.write(body)
    answer.write(b"{}")
    return Captured(
        endpoint="e", variant="v", request=request, request_type=content_type, answer=answer,
        answer_type="application/json", time=0.0, inference_id=None, custom_attributes=None,
    )  # fmt: skip


def config(prefix: str) -> dict[str, Any]:
    return {
        "InitialSamplingPercentage": 100, "DestinationS3Uri": f"s3://{BUCKET}/{prefix}",
        "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "content_type", "encoding"),
    [
        ("größer, “x”\n\\".encode() * 300_000, "text/csv; charset=utf-8", "CSV"),
        (b"\xff\xfe,1", "text/csv", "BASE64"),
        (bytes(range(256)) * 20_001, "image/png", "BASE64"),
        (b"", "text/csv", "CSV"),
    ],
)
def test_payload_of_any_size_is_kept_exactly(
    capture: Capture, s3_endpoint: str, tmp_path: Path, body: bytes, content_type: str, encoding: str
) -> None:
    prefix = unique("sizes")
    capture().put(config(prefix), captured(tmp_path, body, content_type))
    (record,) = await_records(boto3.client("s3", endpoint_url=s3_endpoint, **CLIENT), prefix, 1)
    side = record["captureData"]["endpointInput"]
    assert side["encoding"] == encoding
    assert (base64.b64decode(side["data"]) if encoding == "BASE64" else side["data"].encode()) == body


def test_record_cut_off_by_a_kill_is_dropped(capture: Capture, s3_endpoint: str, tmp_path: Path) -> None:
    """And those before it are delivered by the next server."""
    prefix = unique("cut")
    killed = capture(batch_s=1000)
    for _ in range(3):
        killed.put(config(prefix), captured(tmp_path, b"x", "text/csv"))
    (path,) = (tmp_path / "data-capture").glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"captureData":{"endpointInput":{"da')
    capture().start()
    client = boto3.client("s3", endpoint_url=s3_endpoint, **CLIENT)
    assert len(await_records(client, prefix, 3)) == 3
