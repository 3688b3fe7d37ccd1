"""Wire formats: which service and operation a request asks for, and how its answer and its errors are written.

Control planes here speak AWS JSON (SageMaker, CloudWatch Logs), the Query protocol (STS, IAM) or, depending on the
client's age, one of three (CloudWatch: Query, JSON 1.0, Smithy RPC v2 CBOR). A client of any other service gets its
error in the format it reads, so that it shows the message and not a parser's complaint.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import uuid
import zlib
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from local_sagemaker.wire import cbor, query, service_model, signature
from local_sagemaker.wire.errors import ApiError

_JSON_SERVICES = {
    "SageMaker": "sagemaker",
    "Logs_20140328": "logs",
    "GraniteServiceVersion20100801": "cloudwatch",
    "AnyScaleFrontendService": "application-autoscaling",
    "LocalSageMaker": "local-sagemaker",
}
_SIGNED_AS = {"monitoring": "cloudwatch"}

#: Implemented services whose requests are decoded by their model: not all values of a form or a CBOR map are text.
_MODELLED = frozenset({"cloudwatch", "sts", "iam"})

_CBOR = "rpc-v2-cbor"

#: JSON can write one half of a pair that is a character only together.
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")

#: A compressed request may not unpack to more; CloudWatch's own bound of PutMetricData is 1 MB.
_MAX_UNPACKED_BYTES = 8 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    service: str
    operation: str
    request: dict[str, Any]
    style: str
    """json, query, cbor or rest."""

    @classmethod
    def parse(cls, path: str, headers: Mapping[str, str], body: bytes) -> Call:
        """Raises SerializationException for a body that is not what the headers say."""
        signed_for = signature.signing_service(headers.get("authorization", "")) or "unknown"
        service = _SIGNED_AS.get(signed_for, signed_for)
        if body and headers.get("content-encoding") == "gzip":
            body = _unpacked(body)
        if headers.get("smithy-protocol") == _CBOR:
            request = cbor.loads(body) if body and service in _MODELLED else {}
            return cls(service=service, operation=path.rsplit("/", 1)[-1], request=_object(request), style="cbor")
        if target := headers.get("x-amz-target"):
            prefix, _, operation = target.partition(".")
            service = _JSON_SERVICES.get(prefix, service if service != "sagemaker" else prefix)
            return cls(service=service, operation=operation, request=_json(body), style="json")
        if "x-www-form-urlencoded" in headers.get("content-type", ""):
            return cls._of_form(service, query.fields(body))
        return cls(service=service, operation=f"the request to {path}", request={}, style="rest")

    @classmethod
    def _of_form(cls, service: str, form: dict[str, str]) -> Call:
        operation = form.get("Action", "")
        model = service_model.operation(service, operation) if service in _MODELLED else None
        request = query.parse(form, model.input_shape) if model else {}
        return cls(service=service, operation=operation, request=request, style="query")

    def response(self, answer: dict[str, Any]) -> Response:
        request_id = str(uuid.uuid4())
        headers = {"x-amzn-RequestId": request_id}
        match self.style:
            case "query":
                return Response(
                    query.answer(self._model, _finite(answer), request_id), 200, headers, media_type="text/xml"
                )
            case "cbor":
                headers["smithy-protocol"] = _CBOR
                shape = self._model.output_shape
                body = cbor.dumps(_finite(answer), shape) if shape is not None else b""
                return Response(body, 200, headers, media_type="application/cbor")
            case _:
                return Response(_written(answer), 200, headers, media_type="application/x-amz-json-1.1")

    def error(self, error: ApiError) -> Response:
        modelled, code = _names(self.service, error.code)
        headers = {"x-amzn-RequestId": str(uuid.uuid4()), "x-amzn-ErrorType": modelled}
        sender = error.status < 500
        if modelled != code or self.service == "cloudwatch":
            headers["x-amzn-query-error"] = f"{code};{'Sender' if sender else 'Receiver'}"
        match self.style:
            case "json":
                body, media_type = _error_json(modelled, error.message), "application/x-amz-json-1.1"
            case "cbor":
                headers["smithy-protocol"] = _CBOR
                content = cbor.error(modelled, error.message)
                return Response(content, error.status, headers, media_type="application/cbor")
            case "query":
                body, media_type = query.error(code, error.message, sender=sender), "text/xml"
            case _ if self.service == "s3":
                body = f"<Error>{query.code_and_message(code, error.message)}</Error>"
                media_type = "application/xml"
            case _:
                body, media_type = _error_json(modelled, error.message), "application/json"
        return Response(body, error.status, headers, media_type=media_type)

    @property
    def _model(self) -> Any:
        return service_model.operation(self.service, self.operation)


@functools.cache
def _names(service: str, code: str) -> tuple[str, str]:
    """An error's name in the service's model, and the code by which clients of the old Query protocol know it.

    They differ for services that were born with Query (CloudWatch): ValidationException is ValidationError there.
    """
    if service != "cloudwatch":
        return code, code
    model = service_model.service(service)
    errors = {shape.name: shape.metadata.get("error", {}).get("code", shape.name) for shape in model.error_shapes}
    if code in errors:
        return code, errors[code]
    return next((name for name, known_as in errors.items() if known_as == code), code), code


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        content = unpacker.decompress(body, _MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise ApiError("SerializationException", f"the request body is not gzip: {error}") from error
    if not unpacker.eof:
        raise ApiError(
            "RequestEntityTooLargeException",
            f"the request body is cut off, or unpacks to more than {_MAX_UNPACKED_BYTES} bytes",
            413,
        )
    return content


def _written(answer: dict[str, Any]) -> str:
    try:
        return json.dumps(answer, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(answer))


def _finite(value: Any) -> Any:
    """Without members and elements that no number of JSON is: NaN and the infinities break every strict reader."""
    match value:
        case dict():
            return {key: _finite(item) for key, item in value.items() if not _is_no_number(item)}
        case list():
            return [_finite(item) for item in value if not _is_no_number(item)]
    return value


def _is_no_number(value: Any) -> bool:
    return type(value) is float and not math.isfinite(value)


def _no_json(constant: str) -> None:
    """Python reads NaN and Infinity; JSON does not have them."""
    raise ValueError(f"{constant} is no JSON value")


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body or b"{}", parse_constant=_no_json)
    except ValueError as error:
        raise ApiError("SerializationException", f"the request body is not JSON: {error}") from error
    except RecursionError as error:
        raise ApiError("SerializationException", "the request body is nested too deeply") from error
    if _HALF_CHARACTER.search(body):
        try:
            json.dumps(content, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ApiError("SerializationException", f"the request body is not text: {error}") from error
    return _object(content)


def _object(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ApiError("SerializationException", "the request body must be an object")
    return content


def _error_json(code: str, message: str) -> str:
    return json.dumps({"__type": code, "message": message})
