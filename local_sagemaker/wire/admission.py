"""Who may call: the server runs code it is given, so a request must be meant for it, of bounded size, and signed."""

from __future__ import annotations

import datetime
import hashlib
from urllib.parse import urlsplit

from starlette.requests import Request

from local_sagemaker.settings import Settings
from local_sagemaker.wire import signature
from local_sagemaker.wire.errors import ApiError

#: A control plane request is small; the data plane has limits of its own.
_MAX_BODY_BYTES = 30 * 2**20


class Admission:
    """Every method raises an ApiError for a request that is not admitted."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hosts = {"localhost", "127.0.0.1", "::1", settings.host, *settings.allowed_hosts}

    async def body(self, request: Request) -> bytes:
        """The body of a request that passes all checks."""
        self.check_origin(request)
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

    def check_signature(self, request: Request, body_sha256: str) -> None:
        settings = self._settings
        if not settings.verify_signatures:
            return
        signature.verify(
            request.method,
            request.scope.get("raw_path", request.url.path.encode()).decode(errors="replace"),
            request.scope["query_string"].decode(errors="replace"),
            request.headers,
            body_sha256,
            access_key_id=settings.access_key_id,
            secret_access_key=settings.secret_access_key,
            now=datetime.datetime.now(datetime.UTC),
        )

    async def _read(self, request: Request) -> bytes:
        length = request.headers.get("content-length", "0")
        received, chunks = 0, []
        if length.isascii() and length.isdigit() and int(length) <= _MAX_BODY_BYTES:
            async for chunk in request.stream():
                received += len(chunk)
                if received > _MAX_BODY_BYTES:
                    break
                chunks.append(chunk)
            else:
                return b"".join(chunks)
        raise ApiError("RequestEntityTooLargeException", f"the request body is over {_MAX_BODY_BYTES} bytes", 413)
