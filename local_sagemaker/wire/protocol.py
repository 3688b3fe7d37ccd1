"""Wire formats: which service and operation a request asks for, and how its answer and its errors are written.

Control planes here speak AWS JSON 1.1 (SageMaker, CloudWatch Logs) or the Query protocol (STS, IAM). A client of any
other service gets its error in the format it reads, so that it shows the message and not a parser's complaint.
"""

from __future__ import annotations

import dataclasses
import json
import urllib.parse
import uuid
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from starlette.responses import Response

from local_sagemaker.wire import signature
from local_sagemaker.wire.errors import ApiError

_JSON_SERVICES = {"SageMaker": "sagemaker", "Logs_20140328": "logs"}
_QUERY_NAMESPACES = {
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
}
_CBOR = "rpc-v2-cbor"


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
        if headers.get("smithy-protocol") == _CBOR:
            return cls(service=signed_for, operation=path.rsplit("/", 1)[-1], request={}, style="cbor")
        if target := headers.get("x-amz-target"):
            prefix, _, operation = target.partition(".")
            service = _JSON_SERVICES.get(prefix, signed_for if signed_for != "sagemaker" else prefix)
            return cls(service=service, operation=operation, request=_json(body), style="json")
        if "x-www-form-urlencoded" in headers.get("content-type", ""):
            form = dict(urllib.parse.parse_qsl(body.decode(errors="replace")))
            return cls(service=signed_for, operation=form.get("Action", ""), request=form, style="query")
        return cls(service=signed_for, operation=f"the request to {path}", request={}, style="rest")

    def response(self, answer: dict[str, Any]) -> Response:
        request_id = str(uuid.uuid4())
        if self.style == "query":
            return Response(
                self._query_answer(answer, request_id), 200, {"x-amzn-RequestId": request_id}, media_type="text/xml"
            )
        return Response(
            json.dumps(answer), 200, {"x-amzn-RequestId": request_id}, media_type="application/x-amz-json-1.1"
        )

    def error(self, error: ApiError) -> Response:
        headers = {"x-amzn-RequestId": str(uuid.uuid4()), "x-amzn-ErrorType": error.code}
        match self.style:
            case "json":
                body, media_type = _error_json(error), "application/x-amz-json-1.1"
            case "cbor":
                headers["smithy-protocol"] = _CBOR
                return Response(_error_cbor(error), error.status, headers, media_type="application/cbor")
            case "query":
                body, media_type = _error_xml(error), "text/xml"
            case _ if self.service == "s3":
                body, media_type = _error_xml(error, wrapped=False), "application/xml"
            case _:
                body, media_type = _error_json(error), "application/json"
        return Response(body, error.status, headers, media_type=media_type)

    def _query_answer(self, answer: dict[str, Any], request_id: str) -> str:
        name = self.operation
        namespace = _QUERY_NAMESPACES.get(self.service, "")
        return (
            f'<{name}Response xmlns="{namespace}"><{name}Result>{_xml(answer)}</{name}Result>'
            f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{name}Response>"
        )


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body or b"{}")
    except ValueError as error:
        raise ApiError("SerializationException", f"the request body is not JSON: {error}") from error
    except RecursionError as error:
        raise ApiError("SerializationException", "the request body is nested too deeply") from error
    if not isinstance(content, dict):
        raise ApiError("SerializationException", "the request body must be a JSON object")
    return content


def _error_json(error: ApiError) -> str:
    return json.dumps({"__type": error.code, "message": error.message})


def _error_xml(error: ApiError, wrapped: bool = True) -> str:
    inner = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    if not wrapped:
        return f"<Error>{inner}</Error>"
    return (
        f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    )


def _error_cbor(error: ApiError) -> bytes:
    """The map {"__type": code, "message": message} in CBOR (RFC 8949): two text pairs need no library."""

    def text(value: str) -> bytes:
        data = value.encode()[:65535]
        return b"\x79" + len(data).to_bytes(2, "big") + data

    return b"\xa2" + text("__type") + text(error.code) + text("message") + text(error.message)


def _xml(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"<{key}>{_xml(item)}</{key}>" for key, item in value.items())
    return escape(str(value))
