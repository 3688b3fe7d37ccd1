"""Data capture: requests to an endpoint and its answers, written to S3 as JSON lines.

A captured record is appended to a file in the server's own folder, and the files are delivered about every two seconds,
or when they have grown, by a thread: an invocation never waits for S3 and never fails because of it. A file that could
not be delivered is kept and tried again, also by the next server, so that neither SIGTERM nor a store that is away
loses a record; a server that is killed loses at most the records of answers it was sending at that moment. Beyond
`MAX_HELD_BYTES` on disk new records are dropped, and the server's log says so.

Only answers of status 2xx are captured, and of payloads what a real-time endpoint takes: asynchronous ones over 25 MB
are left out. AWS does not say what it does with either.

Concurrency contract: any thread may call any method.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import dataclasses
import datetime
import json
import logging
import random
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from local_sagemaker import s3
from local_sagemaker.hosting.payload import Payload
from local_sagemaker.s3 import ObjectStore

log = logging.getLogger("local_sagemaker")

MAX_HELD_BYTES = 2**30
"""What may wait on disk for a store that does not take it."""

_BATCH_BYTES = 8 * 2**20
_RETRY_S = 5.0
_CLOSE_S = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captured:
    """One answered invocation, as it is captured."""

    endpoint: str
    variant: str
    request: Payload
    request_type: str
    answer: Payload
    answer_type: str
    time: float
    """When it was asked, in epoch seconds."""
    inference_id: str | None
    custom_attributes: str | None


@dataclasses.dataclass
class _Batch:
    path: Path
    file: BinaryIO
    size: int = 0


class DataCapture:
    def __init__(self, folder: Path, objects: ObjectStore, *, batch_s: float = 2.0) -> None:
        """Records of so many seconds go into one object."""
        self._folder = folder
        self._batch_s = batch_s
        self._objects = objects
        self._lock = threading.Lock()
        """Guards the batches being written and what is held."""
        self._open: dict[str, _Batch] = {}
        self._held = 0
        self._dropped_at = 0.0
        self._something = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Deliver what an earlier server left."""
        for path in self._folder.glob("*.jsonl"):
            _cut_torn_record(path)
            self._held += path.stat().st_size
            self._wake()

    def close(self) -> None:
        """Deliver what there is, for at most some seconds; the rest waits for the next server."""
        self._closing.set()
        self._something.set()
        if self._thread:
            self._thread.join(_CLOSE_S)

    def put(self, config: dict[str, Any], captured: Captured) -> None:
        """Keep a record as a DataCaptureConfig asks for it; a problem is logged, never raised."""
        try:
            with self._lock:
                if self._has_room():
                    self._append(config, captured)
        except Exception:
            log.exception("an invocation of endpoint '%s' was not captured", captured.endpoint)
        self._wake()

    def _append(self, config: dict[str, Any], captured: Captured) -> None:
        prefix = s3.join(config["DestinationS3Uri"], captured.endpoint, captured.variant)
        batch = self._open.get(prefix)
        if batch is None:
            batch = self._open[prefix] = self._batch(prefix)
        try:
            for piece in _record(config, captured):
                batch.file.write(piece)
            batch.file.flush()
        except BaseException:
            del self._open[prefix]
            with contextlib.suppress(OSError):  # what it could not write before, it cannot write now
                batch.file.close()
            _cut_torn_record(batch.path)
            raise
        size = batch.file.tell()
        self._held += size - batch.size
        batch.size = size
        if size > _BATCH_BYTES:
            self._open.pop(prefix).file.close()

    def _batch(self, prefix: str) -> _Batch:
        self._folder.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.UTC)
        name = f"{now:%M-%S}-{now.microsecond // 1000:03}-{uuid.uuid4()}"
        path = self._folder / f"{name}.jsonl"
        # First where it goes, then what: no data may lie there whose destination nobody knows.
        path.with_suffix(".uri").write_text(f"{prefix}/{now:%Y/%m/%d/%H}/{name}.jsonl")
        return _Batch(path, path.open("wb"))

    def _has_room(self) -> bool:
        if self._held < MAX_HELD_BYTES:
            return True
        if time.monotonic() - self._dropped_at > 60:
            self._dropped_at = time.monotonic()
            log.warning("%s holds %d bytes that S3 does not take: captures are dropped", self._folder, self._held)
        return False

    # -- delivery -------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="data-capture", daemon=True)
                self._thread.start()
        self._something.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._something.wait()
            self._something.clear()
            self._closing.wait(self._batch_s)
            if not self._deliver():
                self._closing.wait(_RETRY_S)
                self._something.set()
        self._deliver()

    def _deliver(self) -> bool:
        """Upload all there is; False when something could not be."""
        with self._lock:
            batches, self._open = self._open, {}
            for batch in batches.values():
                batch.file.close()
            paths = sorted(self._folder.glob("*.jsonl"))
        complete = True
        for path in paths:
            try:
                self._upload(path)
            except Exception as error:
                log.warning("captured data is kept in %s, S3 does not take it: %s", path, error)
                complete = False
        return complete

    def _upload(self, path: Path) -> None:
        uri, size = path.with_suffix(".uri"), path.stat().st_size
        if size:
            self._objects.upload_file(path, uri.read_text())
        path.unlink()
        uri.unlink(missing_ok=True)
        with self._lock:
            self._held -= size


def wanted(config: dict[str, Any] | None) -> bool:
    """Whether this invocation is among those that a DataCaptureConfig samples."""
    if not config or not config.get("EnableCapture", True):
        return False
    return random.random() * 100 < float(config["InitialSamplingPercentage"])


def _cut_torn_record(path: Path) -> None:
    """Drop the end of a file whose writer was killed within a record."""
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        while end:
            start = max(0, end - 2**16)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)


# -- records ----------------------------------------------------------------------------------------------------------


def _record(config: dict[str, Any], captured: Captured) -> Iterator[bytes]:
    """One line, in pieces: a captured payload may be larger than what should be in memory."""
    modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
    both = "InputAndOutput" in modes
    yield b'{"captureData":{'
    if both or "Input" in modes:
        yield b'"endpointInput":'
        yield from _side("INPUT", captured.request, captured.request_type, config)
    if both or "Output" in modes:
        yield b',"endpointOutput":' if both or "Input" in modes else b'"endpointOutput":'
        yield from _side("OUTPUT", captured.answer, captured.answer_type, config)
    metadata: dict[str, Any] = {"eventId": str(uuid.uuid4())}
    if captured.inference_id:
        metadata["inferenceId"] = captured.inference_id
    if captured.custom_attributes:
        metadata["customAttributes"] = [captured.custom_attributes]
    moment = datetime.datetime.fromtimestamp(captured.time, datetime.UTC)
    metadata["inferenceTime"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    yield f'}},"eventMetadata":{json.dumps(metadata)},"eventVersion":"0"}}\n'.encode()


def _side(mode: str, payload: Payload, content_type: str, config: dict[str, Any]) -> Iterator[bytes]:
    encoding = _encoding(payload, content_type, config.get("CaptureContentTypeHeader", {}))
    yield f'{{"observedContentType":{json.dumps(content_type)},"mode":"{mode}","data":"'.encode()
    yield from _base64(payload) if encoding == "BASE64" else _text(payload)
    yield f'","encoding":"{encoding}"}}'.encode()


def _encoding(payload: Payload, content_type: str, header: dict[str, list[str]]) -> str:
    """CSV or JSON for the content types that are configured as such; without any, everything is base64 (API reference).

    What is not UTF-8 is base64 whatever it calls itself.
    """
    plain = content_type.partition(";")[0].strip().lower()
    for encoding, member in (("CSV", "CsvContentTypes"), ("JSON", "JsonContentTypes")):
        if plain in (name.lower() for name in header.get(member, [])) and _is_text(payload):
            return encoding
    return "BASE64"


def _is_text(payload: Payload) -> bool:
    try:
        for _ in _text(payload):
            pass
    except UnicodeDecodeError:
        return False
    return True


def _text(payload: Payload) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    for chunk in payload.chunks():
        yield json.dumps(decoder.decode(chunk))[1:-1].encode()
    yield json.dumps(decoder.decode(b"", final=True))[1:-1].encode()


def _base64(payload: Payload) -> Iterator[bytes]:
    rest = b""
    for chunk in payload.chunks():
        data = rest + chunk
        whole = len(data) - len(data) % 3
        rest = data[whole:]
        yield base64.b64encode(data[:whole])
    yield base64.b64encode(rest)
