"""Who may call: the server runs code it is given, so a request must be meant for it, of bounded size, and signed."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.requests import Request

from local_sagemaker.settings import Settings
from local_sagemaker.wire.errors import ApiError
from local_sagemaker.wire.signature import Claim

#: A control plane request is small; the data plane has limits of its own.
_MAX_BODY_BYTES = 30 * 2**20

#: Of all bodies that are being read, together: nobody has proved a right to call before all of his is here.
_MAX_HELD_BYTES = 8 * _MAX_BODY_BYTES


class Admission:
    """Every method raises an ApiError for a request that is not admitted."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held_bytes = 0
        self._hosts = {"localhost", "127.0.0.1", "::1", settings.host, *settings.allowed_hosts}

    async def body(self, request: Request) -> bytes:
        """The body of a request that passes all checks."""
        self.check_origin(request)
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and int(length) <= _MAX_BODY_BYTES):
            raise _too_large()
        self.check_signature(request, None)
        body = await self._read(request)
        self.check_signature(request, hashlib.sha256(body).hexdigest())
        return body

    def check_host(self, request: Request) -> None:
        """Refuse a foreign Host: a web page whose name was made to point here (DNS rebinding)."""
        try:
            host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        except ValueError:
            host = "?"
        if host not in self._hosts:
            raise ApiError("AccessDeniedException", f"Host '{host}' is not served; --allow-host adds one", 403)

    def check_origin(self, request: Request) -> None:
        """Refuse what a browser could be tricked into sending."""
        self.check_host(request)
        origin = request.headers.get("origin")
        if origin or request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            raise ApiError("AccessDeniedException", f"requests from the web page '{origin}' are refused", 403)

    def check_signature(self, request: Request, body_sha256: str | None) -> None:
        """None: before its body is read, which is not done for whoever claims no right to call."""
        settings = self._settings
        if not settings.verify_signatures:
            return
        now = datetime.datetime.now(datetime.UTC)
        claim = Claim.of(request.headers, access_key_id=settings.access_key_id, now=now)
        if body_sha256 is not None:
            claim.verify(
                request.method,
                request.scope.get("raw_path", request.url.path.encode()).decode(errors="replace"),
                request.scope["query_string"].decode(errors="replace"),
                request.headers,
                body_sha256,
                secret=settings.secret_access_key,
            )

    def has_key(self, request: Request) -> bool:
        """Whether a browser's request brings the access key as its user name and the secret as its password."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            pair = base64.b64decode(given, validate=True) if scheme.lower() == "basic" else b""
        except ValueError:
            return False
        expected = f"{self._settings.access_key_id}:{self._settings.secret_access_key}".encode()
        return hmac.compare_digest(pair, expected)

    async def _read(self, request: Request) -> bytes:
        received, chunks = 0, []
        try:
            async for chunk in request.stream():
                received += len(chunk)
                self._held_bytes += len(chunk)
                if received > _MAX_BODY_BYTES:
                    raise _too_large()
                if self._held_bytes > _MAX_HELD_BYTES:
                    raise ApiError("ThrottlingException", "too many large requests at once; try again", 429)
                chunks.append(chunk)
        finally:
            self._held_bytes -= received
        return b"".join(chunks)


def _too_large() -> ApiError:
    return ApiError("RequestEntityTooLargeException", f"the request body is over {_MAX_BODY_BYTES} bytes", 413)
