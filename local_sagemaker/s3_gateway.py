"""S3 requests that arrive here, passed on to the object store: one address serves a client's every call.

Bytes go through unchanged, Host header included, so that the store itself verifies the client's signature. Two kinds of
request are changed and signed anew, because SeaweedFS answers them otherwise than S3, and the SageMaker SDK (the first)
and smdebug (the second) make them all the time:

- An upload that asks for encryption with a KMS key. There is no KMS here; the object is kept unencrypted.
- A listing that starts after its own prefix (`StartAfter` = `Prefix`), which the store answers with nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hmac
import re
import urllib.parse
from collections.abc import AsyncIterator
from xml.sax.saxutils import escape

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from local_sagemaker.settings import Settings
from local_sagemaker.wire.authentication import Admission
from local_sagemaker.wire.errors import ApiError
from local_sagemaker.wire.signature import signing_service

_KMS = "x-amz-server-side-encryption"
#: Headers that belong to one connection.
_HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer"}
# Of what is signed in any other way the store makes little: at some it closes the connection.
_CREDENTIAL = r"[!-+\--~]+/(?P<day>[0-9]{8})/[a-z0-9-]+/s3/aws4_request"
_AUTHORIZATION = re.compile(
    rf"AWS4-HMAC-SHA256 Credential={_CREDENTIAL}, ?"
    r"SignedHeaders=[a-z0-9_-]+(;[a-z0-9_-]+)*, ?Signature=[0-9a-f]{64}"
)
_TIMEOUT = httpx.Timeout(60.0)
_SAFE_AGAIN = ("GET", "HEAD", "DELETE")
_PAUSES_S = (0.0, 0.05, 0.2)
"""Before each further question, where the store failed by no fault of the request."""
_LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=16)


class S3Gateway:
    """ASGI middleware: takes the requests that were signed for S3, leaves all others to `app`."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._admission = Admission(settings)
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        store = self._settings.s3_endpoint
        if scope["type"] != "http" or not store or not is_for_s3(request := Request(scope, receive)):
            return await self._app(scope, receive, send)
        try:
            self._admission.check_origin(request)
            response = await self._pass_on(request, store)
        except ApiError as error:
            response = s3_error(error.status, "AccessDenied", error.message)
        except (httpx.LocalProtocolError, httpx.InvalidURL, ValueError) as error:
            response = s3_error(400, "InvalidRequest", f"the request cannot be passed on to the object store: {error}")
        except httpx.PoolTimeout:
            response = s3_error(503, "SlowDown", "too many requests to the object store at once; try again")
        except httpx.HTTPError as error:
            response = s3_error(503, "ServiceUnavailable", f"the object store {store} cannot be reached: {error}")
        except ClientDisconnect:
            return
        with contextlib.suppress(ClientDisconnect, httpx.HTTPError):
            await response(scope, receive, send)

    async def _pass_on(self, request: Request, store: str) -> Response:
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_HEADERS}
        target = request.scope["raw_path"].decode("ascii")
        if query := request.scope["query_string"].decode("ascii"):
            target += f"?{query}"
        if "authorization" in headers:
            found = _AUTHORIZATION.fullmatch(headers["authorization"])
            if not (found and is_of(found["day"], headers.get("x-amz-date")) and "x-amz-content-sha256" in headers):
                return s3_error(400, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
            asked = without_kms(headers), without_start_at_prefix(target)
            if asked != (headers, target):
                if not self._is_signed(request.method, target, headers):
                    return s3_error(403, "SignatureDoesNotMatch", "The request signature does not match.")
                headers, target = asked
                headers = self._signed_anew(request.method, target, headers)
        elif credential := presigned(request, "X-Amz-Credential"):
            found = re.fullmatch(_CREDENTIAL, credential)
            if not found or not is_of(found["day"], presigned(request, "X-Amz-Date")):
                return s3_error(400, "AuthorizationQueryParametersError", "X-Amz-Credential is malformed.")
        self._client = self._client or httpx.AsyncClient(timeout=_TIMEOUT, limits=_LIMITS, trust_env=False)
        url = httpx.URL(store).copy_with(raw_path=target.encode())
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
        body = request.stream() if has_body else None
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        sent = self._client.build_request(request.method, url, headers=raw, content=body)
        answer = await self._ask(self._client, sent, may_repeat=not has_body and request.method in _SAFE_AGAIN)
        response = StreamingResponse(relayed(answer), answer.status_code)
        response.raw_headers = [(name.lower(), value) for name, value in answer.headers.raw if kept(name)]
        return response

    @staticmethod
    async def _ask(client: httpx.AsyncClient, request: httpx.Request, *, may_repeat: bool) -> httpx.Response:
        """The store's answer, to a further question where one fails by no fault of the request."""
        for pause_s in _PAUSES_S if may_repeat else ():
            try:
                answer = await client.send(request, stream=True)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                pass  # most often the store has just closed a connection that was kept, after another's odd request
            else:
                # SeaweedFS's word, a few times in 100,000, for an object that is replaced at just this moment.
                if answer.status_code != 500:
                    return answer
                await answer.aclose()
            await asyncio.sleep(pause_s)
        return await client.send(request, stream=True)

    def _is_signed(self, method: str, target: str, headers: dict[str, str]) -> bool:
        _, names, given = authorization_parts(headers)
        if "host" not in names:  # which AWS asks for, and botocore cannot do without
            return False
        signature = self._signature(method, target, {name: headers.get(name, "") for name in names})
        return hmac.compare_digest(signature.encode(), given.encode())

    def _signed_anew(self, method: str, target: str, headers: dict[str, str]) -> dict[str, str]:
        """With the same key, of the same moment."""
        start, names, _ = authorization_parts(headers)
        signed = {name: headers[name] for name in names if name in headers}
        signature = self._signature(method, target, signed)
        return headers | {"authorization": f"{start}SignedHeaders={';'.join(signed)}, Signature={signature}"}

    def _signature(self, method: str, target: str, headers: dict[str, str]) -> str:
        """By botocore, over exactly these headers."""
        keys = botocore.credentials.Credentials(self._settings.access_key_id, self._settings.secret_access_key)
        auth = botocore.auth.S3SigV4Auth(keys, "s3", self._settings.region)
        url = f"http://{headers.get('host', '')}{target}"
        request = botocore.awsrequest.AWSRequest(method, url, headers=headers)
        request.context["timestamp"] = headers.get("x-amz-date", "")
        return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


def is_for_s3(request: Request) -> bool:
    """By the service in its signature, which is in the header or the query; version 2 and forms are S3's alone."""
    if "authorization" in request.headers:
        return signing_service(request.headers["authorization"]) == "s3"
    by_version_4 = presigned(request, "X-Amz-Credential").endswith("/s3/aws4_request")
    return by_version_4 or is_presigned_by_version_2(request) or is_upload_form(request)


def is_of(day: str, moment: str | None) -> bool:
    """Whether a signature's day is one, and that of the moment at which it was made; None: it tells no moment."""
    try:
        signed_on = datetime.datetime.strptime(day, "%Y%m%d")
        at = signed_on if moment is None else datetime.datetime.strptime(moment, "%Y%m%dT%H%M%SZ")
    except ValueError:
        return False
    return signed_on.date() == at.date()


def is_presigned_by_version_2(request: Request) -> bool:
    """As boto3 presigns for us-east-1, unless it is told to use version 4."""
    return all(presigned(request, name) for name in ("AWSAccessKeyId", "Signature", "Expires"))


def is_upload_form(request: Request) -> bool:
    """A form sent to a bucket (generate_presigned_post): its signature is in its fields."""
    kind = request.headers.get("content-type", "").lower()
    is_bucket = re.fullmatch("/[^/]+/?", request.scope["path"]) is not None
    return request.method == "POST" and is_bucket and kind.startswith("multipart/form-data")


def presigned(request: Request, name: str) -> str:
    """A parameter of a presigned address, else nothing."""
    query = request.scope["query_string"].decode("latin-1")
    given: dict[str, str] = dict(urllib.parse.parse_qsl(query)) if name in query else {}
    return given.get(name, "")


def authorization_parts(headers: dict[str, str]) -> tuple[str, list[str], str]:
    """Of a SigV4 header: all that stands before the list of signed headers, the list, the signature."""
    start, _, rest = headers["authorization"].partition("SignedHeaders=")
    return start, rest.partition(",")[0].split(";"), rest.rpartition("Signature=")[2]


def without_kms(headers: dict[str, str]) -> dict[str, str]:
    if not headers.get(_KMS, "").startswith("aws:kms"):
        return headers
    return {name: value for name, value in headers.items() if not name.startswith(_KMS)}


def without_start_at_prefix(target: str) -> str:
    """An object that has the very name of the prefix is then listed too; S3 leaves it out."""
    path, _, query = target.partition("?")
    given = dict(urllib.parse.parse_qsl(query))
    if given.get("start-after") != given.get("prefix") or "start-after" not in given:
        return target
    return f"{path}?" + "&".join(part for part in query.split("&") if not part.startswith("start-after="))


def kept(name: bytes) -> bool:
    return name.lower().decode() not in _HOP_HEADERS


async def relayed(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


def s3_error(status: int, code: str, message: str) -> Response:
    inner = f"<Code>{code}</Code><Message>{escape(message)}</Message>"
    text = f'<?xml version="1.0" encoding="UTF-8"?><Error>{inner}</Error>'
    return Response(text, status, media_type="application/xml")
