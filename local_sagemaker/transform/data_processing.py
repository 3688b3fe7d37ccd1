"""DataProcessing of a batch transform job: what of a record the model sees, and what of both ends up in the output.

Three steps, as AWS documents them ("Associate Prediction Results with Input Records"): InputFilter picks the part that
is sent; JoinSource puts record and answer together; OutputFilter picks what is written. GenerateInferenceId of
DataCaptureConfig appends an id and the job's start time to every answer. CSV rows count as arrays of their columns.
Where AWS leaves it open: an answer that is no JSON object gets its inference id beside a SageMakerOutput, an empty line
is no record, and a body of several records must be answered with as many lines.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import itertools
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any, Protocol

from local_sagemaker.transform.json_path import JsonPath
from local_sagemaker.transform.records import BadRecordError, Body

CSV, JSON, JSON_LINES = "text/csv", "application/json", "application/jsonlines"

_OUTPUT = "SageMakerOutput"
_INPUT = "SageMakerInput"
_ID = "SageMakerInferenceId"
_TIME = "SageMakerInferenceTime"
_TO_QUOTE = re.compile(r'["\r\n]')


class _Format(Protocol):
    def decode(self, text: bytes) -> Any: ...
    def encode(self, value: Any) -> bytes: ...
    def join(self, record: Any, answer: Any) -> Any: ...
    def mark(self, value: Any, inference: dict[str, str]) -> Any: ...


class _Csv:
    """A row is a list of its columns, as texts. Quotes as in RFC 4180."""

    def decode(self, text: bytes) -> list[str]:
        try:
            line = text.decode().rstrip("\r\n")
            return next(csv.reader([line], strict=True)) if '"' in line else line.split(",")
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{text!r:.80} is not a row of a CSV file: {error}") from error

    def encode(self, value: Any) -> bytes:
        row = value if isinstance(value, list) else [value]
        line = ",".join(map(str, row))
        if not line or _TO_QUOTE.search(line) or line.count(",") >= len(row):
            quoted = io.StringIO()
            csv.writer(quoted, lineterminator="").writerow(row)
            line = quoted.getvalue()
        return line.encode() + b"\n"

    def join(self, record: Any, answer: Any) -> list[str]:
        return [*record, *answer]

    def mark(self, value: Any, inference: dict[str, str]) -> list[str]:
        return [*(value if isinstance(value, list) else [value]), *inference.values()]


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


class _Json:
    def decode(self, text: bytes) -> Any:
        try:
            return json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{text!r:.80} is not JSON: {error}") from error

    def encode(self, value: Any) -> bytes:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace") + b"\n"  # half a surrogate pair stays the escape that it was

    def join(self, record: Any, answer: Any) -> dict[str, Any]:
        return {**(record if isinstance(record, dict) else {_INPUT: record}), _OUTPUT: answer}

    def mark(self, value: Any, inference: dict[str, str]) -> dict[str, Any]:
        return {**(value if isinstance(value, dict) else {_OUTPUT: value}), **inference}


_FORMATS: dict[str, _Format] = {CSV: _Csv(), JSON: _Json(), JSON_LINES: _Json()}


def media_type(content_type: str | None) -> str:
    """`text/csv; charset=utf-8` → `text/csv`."""
    return (content_type or "").partition(";")[0].strip().lower()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataProcessing:
    input_filter: JsonPath
    output_filter: JsonPath
    join: bool
    inference_time: str | None
    """What GenerateInferenceId writes beside each id; None without it."""
    content_type: str
    accept: str
    split_type: str
    assemble_with: str

    @classmethod
    def of(cls, request: dict[str, Any], started: float) -> DataProcessing:
        """What a CreateTransformJob request asks for. Raises ValueError for what cannot be done, in words."""
        given, source, target = request.get("DataProcessing", {}), request["TransformInput"], request["TransformOutput"]
        inference_time = None
        if request.get("DataCaptureConfig", {}).get("GenerateInferenceId"):
            inference_time = f"{datetime.datetime.fromtimestamp(started, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
        processing = cls(
            input_filter=JsonPath.parse(given.get("InputFilter") or "$"),
            output_filter=JsonPath.parse(given.get("OutputFilter") or "$"),
            join=given.get("JoinSource") == "Input",
            inference_time=inference_time,
            content_type=media_type(source.get("ContentType")),
            accept=media_type(target.get("Accept")),
            split_type=source.get("SplitType", "None"),
            assemble_with=target.get("AssembleWith", "None"),
        )
        processing._check()
        return processing

    @property
    def changes_input(self) -> bool:
        return not self.input_filter.is_root

    @property
    def changes_output(self) -> bool:
        return self.join or not self.output_filter.is_root or self.inference_time is not None

    def ask(self, record: bytes) -> bytes:
        """What the model gets of a record. Raises BadRecordError."""
        form = _FORMATS[self.content_type]
        try:
            asked = [form.encode(self.input_filter.select(form.decode(line))) for line in self._lines(record)]
        except ValueError as error:
            raise BadRecordError(f"InputFilter: {error}") from error
        return b"".join(asked) if self._input_lines else asked[0].rstrip(b"\n")

    def answer(self, body: Body, answer: bytes) -> bytes:
        """What is written of the model's answer to a body. Raises BadRecordError."""
        one = body.count == 1 and len(list(itertools.islice(self._lines(body.raw), 2))) == 1
        answers = iter([answer]) if self.accept == JSON and one else _lines(answer)
        written = bytearray()
        try:
            if self.join:
                for line, said in itertools.zip_longest(self._lines(body.raw), answers):
                    if line is None or said is None:
                        self._refuse_join(body, answer)
                    written += self._write(said, line)
            else:
                for said in answers:
                    written += self._write(said, b"")
        except ValueError as error:
            raise BadRecordError(f"OutputFilter and JoinSource: {error}") from error
        return bytes(written) if self._output_lines else bytes(written).rstrip(b"\n")

    def _refuse_join(self, body: Body, answer: bytes) -> None:
        lines, answers = (sum(1 for _ in found) for found in (self._lines(body.raw), _lines(answer)))
        raise BadRecordError(f"{answers} lines answer {lines} records; JoinSource needs one for each")

    def _lines(self, record: bytes) -> Iterator[bytes]:
        return _lines(record) if self._input_lines else iter([record])

    def _write(self, answer: bytes, record: bytes) -> bytes:
        form = _FORMATS[self.accept]
        value = form.decode(answer)
        if self.join:
            value = form.join(_FORMATS[self.content_type].decode(record), value)
        value = self.output_filter.select(value)
        if self.inference_time is not None:
            value = form.mark(value, {_ID: str(uuid.uuid4()), _TIME: self.inference_time})
        return form.encode(value)

    @property
    def _input_lines(self) -> bool:
        return self.split_type == "Line" or self.content_type in (CSV, JSON_LINES)

    @property
    def _output_lines(self) -> bool:
        return self.assemble_with == "Line" or self.accept in (CSV, JSON_LINES)

    def _check(self) -> None:
        if self.inference_time is not None and self.accept not in _FORMATS:
            raise ValueError(
                f"DataCaptureConfig.GenerateInferenceId writes into answers of {_names()}; TransformOutput.Accept is "
                f"'{self.accept}'"
            )
        if not (self.join or self.changes_input or not self.output_filter.is_root):
            return
        for member, value in (
            ("TransformInput.ContentType", self.content_type),
            ("TransformOutput.Accept", self.accept),
        ):
            if value not in _FORMATS:
                raise ValueError(f"DataProcessing works on {_names()}; {member} is '{value}'")
        self._check_lines()
        if self.join and (self.content_type == CSV) != (self.accept == CSV):
            raise ValueError(
                f"JoinSource Input joins CSV with CSV, or JSON with JSON; ContentType is {self.content_type} and "
                f"Accept is {self.accept}"
            )
        for path, of in ((self.input_filter, self.content_type), (self.output_filter, self.accept)):
            if of == CSV and path.has_names:
                raise ValueError(f"JSONPath '{path.text}': a row of {CSV} has no names, only indexes such as $[0]")

    def _check_lines(self) -> None:
        if self.split_type in ("RecordIO", "TFRecord"):
            raise ValueError(f"DataProcessing works on {_names()}; SplitType {self.split_type} is neither")
        if CSV in (self.content_type, self.accept) and (self.split_type, self.assemble_with) != ("Line", "Line"):
            raise ValueError(f"DataProcessing of {CSV} needs SplitType Line and AssembleWith Line")
        if (self.split_type == "Line") != (self.assemble_with == "Line"):
            raise ValueError(
                f"DataProcessing needs SplitType and AssembleWith to agree; they are {self.split_type} and "
                f"{self.assemble_with}"
            )


def _lines(text: bytes) -> Iterator[bytes]:
    return (line for line in io.BytesIO(text) if not line.isspace())


def _names() -> str:
    return f"{CSV}, {JSON} and {JSON_LINES}"
