"""One object of a batch transform job: read, cut, asked about, put together again in the order of its records.

Memory holds a few request bodies and their answers, never a large object: a budget bounds the bytes that all the
objects of an instance hold together (an answer counts as its request). The output is collected in a file and uploaded
only when every record has its answer, so a bad object leaves none.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import botocore.exceptions
import httpx

from local_sagemaker import s3
from local_sagemaker.s3 import Object, ObjectStore
from local_sagemaker.transform import records
from local_sagemaker.transform.data_processing import DataProcessing
from local_sagemaker.transform.model_client import MAX_MB_IN_FLIGHT, ModelClient, Parameters, Refused
from local_sagemaker.transform.records import BadRecordError, Body

_IN_MEMORY_BYTES = 2**20
_BUDGET_BYTES = 32 * 2**20

# Small objects are read and written beside the requests, so that one request at a time does not wait for S3.
_THREADS_BESIDE = 8

_Answer = httpx.Response | Refused
_Waiting = collections.deque[tuple[Body, concurrent.futures.Future[_Answer]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """An object that got no output."""

    uri: str
    reason: str
    by_server: bool


class _RejectedError(Exception):
    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.reason)
        self.refused = refused


class Budget:
    """Bytes that may be held at once. Any thread may take and give."""

    def __init__(self, total_bytes: int) -> None:
        self._total = self._left = total_bytes
        self._changed = threading.Condition()

    @classmethod
    def of(cls, parameters: Parameters) -> Budget:
        """Room for what is being asked about, for one more body, and for many small ones."""
        return cls(max(_BUDGET_BYTES, (parameters.max_concurrent + 1) * parameters.max_bytes))

    def take(self, size: int, *, wait: bool) -> bool:
        """Whether there was room. Waiting ends, because nobody waits who holds something."""
        size = min(size, self._total)
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._left >= size)
            if self._left < size:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        with self._changed:
            self._left += min(size, self._total)
            self._changed.notify_all()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instance:
    """What the objects that one model server answers share. Any thread may use it."""

    objects: ObjectStore
    client: ModelClient
    request: dict[str, Any]
    parameters: Parameters
    processing: DataProcessing
    budget: Budget
    folder: Path
    """Where outputs are collected."""
    stop: threading.Event

    def transform(self, item: Object) -> Rejected | None:
        """Write the output of one object; returns the problem when there is one. Raises JobFailedError if S3 fails."""
        if self.stop.is_set():
            return None
        try:
            with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(self.folder)) as output:
                content_type = self._collect(item, output)
                target = self.request["TransformOutput"]["S3OutputPath"]
                self.objects.write_file(output, s3.join(target, output_key(item, self.request)), content_type)
        except _RejectedError as error:
            return Rejected(item.uri, error.refused.reason, error.refused.by_server)
        except BadRecordError as error:
            return Rejected(item.uri, str(error), by_server=False)
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            return Rejected(item.uri, f"it cannot be read: {error}", by_server=False)
        return None

    def _collect(self, item: Object, output: IO[bytes]) -> str:
        """Ask about every body of the object, in order; returns the content type of the answers."""
        waiting: _Waiting = collections.deque()
        bodies, size = self._bodies(item), self._body_bytes(item)
        content_type = "application/octet-stream"
        try:
            while not self.stop.is_set():
                # Nothing is read before there is room for it; who holds answered bodies makes room itself.
                while not self.budget.take(size, wait=not waiting):
                    content_type = self._write(waiting, output, size)
                if not self._ask(item, bodies, waiting, size):
                    break
            while waiting:
                content_type = self._write(waiting, output, size)
        finally:
            for _, future in waiting:
                if not future.cancel():
                    concurrent.futures.wait([future])
                self.budget.give(size)
        if self.stop.is_set():
            raise _RejectedError(Refused("the job was stopped", by_server=False))
        return content_type

    def _ask(self, item: Object, bodies: Iterator[Body], waiting: _Waiting, size: int) -> bool:
        """Ask about the next body; False when there is none."""
        body = None
        try:
            body = next(bodies, None)
        finally:
            if body is None:
                self.budget.give(size)
        if body is None:
            return False
        waiting.append((body, self.client.ask(body.content if self._in_memory else lambda: self._chunks(item))))
        return True

    def _write(self, waiting: _Waiting, output: IO[bytes], size: int) -> str:
        """Write the answer to the oldest body; waits for it."""
        body, future = waiting[0]
        answer = future.result()
        if isinstance(answer, Refused):
            raise _RejectedError(answer)
        content = answer.content
        if self.processing.changes_output:
            content = self.processing.answer(body, content)
        output.write(content)
        if self._ends_lines and not content.endswith(b"\n"):
            output.write(b"\n")
        waiting.popleft()
        self.budget.give(size)
        return str(answer.headers.get("content-type", "application/octet-stream"))

    def _bodies(self, item: Object) -> Iterator[Body]:
        """The bodies to ask about. One that is sent in chunks has no bytes here; it is read when it is sent."""
        if not self._in_memory:
            return iter([Body(1, b"", b"")])
        framed = self.parameters.several_records
        found = records.split(self._chunks(item), self._split_type, framed=framed, max_bytes=self._most_bytes)
        processing = self.processing
        if self._split_type == "Line" and (processing.changes_input or processing.changes_output):
            found = (record for record in found if record.strip())
        return records.pack(
            found,
            several=self.parameters.several_records,
            max_bytes=self._most_bytes,
            prepare=processing.ask if processing.changes_input else None,
            keep=processing.changes_output,
        )

    def _body_bytes(self, item: Object) -> int:
        """How many bytes a body of the object can have, as far as that is known before it is read."""
        if not self._in_memory:
            return _IN_MEMORY_BYTES
        if self._compressed:
            return self._most_bytes
        known = item.size_bytes or self._most_bytes
        return known if self._split_type == "None" else min(known, self._most_bytes)

    def _chunks(self, item: Object) -> Iterator[bytes]:
        size, chunks = self.objects.stream(item.uri)
        limit = self.parameters.max_bytes
        if self._compressed:
            return records.gunzip(chunks)
        if self._split_type == "None" and limit and size > limit:
            chunks.close()
            raise BadRecordError(
                f"413: its {size} bytes are over MaxPayloadInMB ({self.parameters.max_payload_mb}); raise it, or set "
                "SplitType"
            )
        return chunks

    @property
    def _split_type(self) -> str:
        return str(self.request["TransformInput"].get("SplitType", "None"))

    @property
    def _compressed(self) -> bool:
        return bool(self.request["TransformInput"].get("CompressionType") == "Gzip")

    @property
    def _most_bytes(self) -> int:
        """Of a body that is put together here. An object without an end, as a small gzip can be, has no end here."""
        return self.parameters.max_bytes or MAX_MB_IN_FLIGHT * 2**20

    @property
    def _in_memory(self) -> bool:
        """Whether bodies are put together here. Without a limit, and with nothing to look at, they need not be."""
        unsplit = self._split_type == "None" or self.parameters.several_records
        processed = self.processing.changes_input or self.processing.changes_output
        return bool(self.parameters.max_bytes) or not unsplit or processed

    @property
    def _ends_lines(self) -> bool:
        return bool(self.request["TransformOutput"].get("AssembleWith") == "Line")


def num_threads(parameters: Parameters) -> int:
    """How many objects an instance carries at once."""
    return parameters.max_concurrent + _THREADS_BESIDE


def output_key(item: Object, request: dict[str, Any]) -> str:
    """Where the answer for an object lies below S3OutputPath.

    For a prefix, its key without the prefix's directory part: `…/images/` and `…/images/a/1.png` give `a/1.png.out`,
    `…/img` and `…/img/2.png` give `img/2.png.out`. For a manifest, its entry.
    """
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    if source["S3DataType"] == "ManifestFile":
        return f"{item.relative}.out"
    _, prefix = s3.split_uri(source["S3Uri"])
    directory = prefix[: prefix.rfind("/") + 1]
    return f"{item.key.removeprefix(directory)}.out"
