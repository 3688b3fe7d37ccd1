"""InvokeEndpointWithResponseStream: parts as the model sends them, and errors that arrive in the stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import botocore.eventstream
import botocore.exceptions
import psutil
import pytest
from starlette.responses import StreamingResponse

from local_sagemaker.hosting import data_plane, event_stream
from tests.local_sagemaker.harness import Server
from tests.local_sagemaker.serving import create_config, create_model, deploy, invoke, wait_deleted, write_image_map
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_map(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def endpoint(server: Server) -> str:
    return deploy(server, create_config(server, create_model(server, version=1)))


def stream(server: Server, endpoint: str, body: bytes, **members: Any) -> dict[str, Any]:
    answer: dict[str, Any] = server.runtime.invoke_endpoint_with_response_stream(
        EndpointName=endpoint, Body=body, **members
    )
    return answer


def parts(answer: dict[str, Any]) -> list[bytes]:
    return [event["PayloadPart"]["Bytes"] for event in answer["Body"]]


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 4096])
def test_events_are_what_botocore_reads(payload: bytes) -> None:
    """Its buffer checks both checksums."""
    buffer = botocore.eventstream.EventStreamBuffer()
    data = event_stream.event("PayloadPart", payload) + event_stream.exception("ModelStreamError", Message="ö")
    for start in range(0, len(data), 1000):
        buffer.add_data(data[start : start + 1000])
    first, second = buffer
    assert (first.headers[":event-type"], first.headers[":message-type"]) == ("PayloadPart", "event")
    assert first.payload == payload
    assert (second.headers[":exception-type"], json.loads(second.payload)) == ("ModelStreamError", {"Message": "ö"})


def test_headers_travel_both_ways(server: Server, endpoint: str) -> None:
    answer = stream(
        server, endpoint, b"x", ContentType="image/png", Accept="application/json", CustomAttributes="trace=1",
        InferenceId="id-1", TargetVariant="AllTraffic", SessionId="abc",
    )  # fmt: skip
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("application/json", "AllTraffic")
    assert answer["CustomAttributes"] == "from-the-model"
    headers = json.loads(b"".join(parts(answer)))["headers"]
    assert (headers["content-type"], headers["accept"]) == ("image/png", "application/json")
    assert headers["x-amzn-sagemaker-custom-attributes"] == "trace=1"
    assert headers["x-amzn-sagemaker-inference-id"] == "id-1"
    assert "x-amzn-sagemaker-accept" not in headers


def test_parts_arrive_when_the_model_sends_them(server: Server, endpoint: str) -> None:
    began = time.monotonic()
    answer = stream(server, endpoint, b"parts 4 0.2")
    moments, content = [], b""
    for event in answer["Body"]:
        content += event["PayloadPart"]["Bytes"]
        moments.append(time.monotonic() - began)
    assert content == b"part 0;part 1;part 2;part 3;"
    assert moments[0] < moments[-1] - 0.4  # three pauses of 0.2 s lie between


def test_large_streams_are_not_gathered(server: Server, endpoint: str) -> None:
    assert server.process
    before = psutil.Process(server.process.pid).memory_info().rss
    assert sum(map(len, parts(stream(server, endpoint, b"zeros %d" % 2**27)))) == 2**27
    assert psutil.Process(server.process.pid).memory_info().rss - before < 40 * 2**20


def test_stream_that_breaks_ends_in_an_error_event(server: Server, endpoint: str) -> None:
    answer = stream(server, endpoint, b"parts 2 0 1")
    received = []
    with pytest.raises(botocore.exceptions.EventStreamError) as caught:
        received += [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
    assert caught.value.response["Error"]["Code"] == "ModelStreamError"
    assert "the model process exited" in caught.value.response["Error"]["Message"]


def test_errors_before_the_first_byte_are_answers(server: Server, endpoint: str) -> None:
    for body, code, status in ((b"broken", "ModelError", 424), (b"unsupported", "ModelError", 424)):
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            stream(server, endpoint, body)
        assert caught.value.response["Error"]["Code"] == code
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        stream(server, "nobody", b"x")
    assert caught.value.response["Error"]["Message"] == "Endpoint nobody of account 000000000000 not found."
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        stream(server, endpoint, b"x", TargetContainerHostname="second")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_clients_that_stop_reading_hold_nothing(server: Server, endpoint: str) -> None:
    worker = psutil.Process(invoke(server, endpoint)["pid"])
    answer = stream(server, endpoint, b"parts 1000 0.05")
    next(iter(answer["Body"]))
    answer["Body"].close()

    def held() -> bool:
        return any(item.status == psutil.CONN_ESTABLISHED for item in worker.net_connections("tcp"))

    wait_until(lambda: not held(), patience_s=30)  # after 50 s the answer would have come to its own end


def test_answer_that_has_begun_ends_before_its_endpoint_is_deleted(server: Server) -> None:
    name = deploy(server, create_config(server, create_model(server, version=1)))
    events = iter(stream(server, name, b"parts 4 0.3")["Body"])
    assert next(events)["PayloadPart"]["Bytes"] == b"part 0;"
    server.sagemaker.delete_endpoint(EndpointName=name)
    rest = [event["PayloadPart"]["Bytes"] for event in events]
    assert b"".join(rest) == b"part 1;part 2;part 3;"
    wait_deleted(server, name)


def test_client_that_stops_reading_gives_its_worker_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is still connected, so nothing else would end its answer."""
    monkeypatch.setattr(data_plane, "_TAKEN_WITHIN_S", 0.05)
    given_back = []

    async def pieces() -> AsyncIterator[bytes]:
        yield b"piece"

    async def wait_for_ever(*_: Any) -> Any:
        await asyncio.Event().wait()

    async def answer() -> None:
        resources = contextlib.AsyncExitStack()
        resources.callback(lambda: given_back.append(True))
        call: Any = None  # captures what has been taken, and nothing is
        scope = {"type": "http", "path": "/endpoints/e/invocations-response-stream"}
        sent = data_plane._Answer(call, StreamingResponse(pieces()), resources)
        await asyncio.wait_for(sent(scope, wait_for_ever, wait_for_ever), PATIENCE_S)

    asyncio.run(answer())
    assert given_back
