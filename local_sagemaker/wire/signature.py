"""Signature Version 4, the verifying side (docs.aws.amazon.com, "Create a signed AWS API request")."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import hmac
import urllib.parse
from collections.abc import Mapping

from local_sagemaker.wire.errors import ApiError

MAX_SKEW = datetime.timedelta(minutes=15)


def signing_service(authorization: str) -> str:
    """The service a request was signed for (`sagemaker`, `sts`, …); empty when the header is not SigV4."""
    scope = _fields(authorization).get("Credential", "").split("/")
    return scope[3] if len(scope) == 5 else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """What an Authorization header says of a request, before anything is proved."""

    scope: str
    date: str
    region: str
    service: str
    timestamp: str
    signed_headers: list[str]
    signature: str

    @classmethod
    def of(cls, headers: Mapping[str, str], *, access_key_id: str, now: datetime.datetime) -> Claim:
        """Raise an ApiError with AWS's code for a claim that no body could make good.

        Header names are lower-case.
        """
        authorization = headers.get("authorization", "")
        if not authorization.startswith("AWS4-HMAC-SHA256 "):
            raise ApiError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
        fields = _fields(authorization)
        try:
            key_id, date, region, service, terminator = fields["Credential"].split("/")
            signed_headers = fields["SignedHeaders"].split(";")
            signature = fields["Signature"]
            timestamp = headers["x-amz-date"]
            signed_at = datetime.datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        except (KeyError, ValueError):
            raise ApiError(
                "IncompleteSignature", "The Authorization header is not a complete SigV4 header", 403
            ) from None
        # What is not signed could be changed on the way: where a request goes, what it asks for.
        for name in ("host", *(name for name in headers if name.startswith("x-amz-"))):
            if name not in signed_headers:
                called = "Host" if name == "host" else name
                raise ApiError(
                    "InvalidSignatureException", f"'{called}' must be a 'SignedHeader' in the AWS Authorization.", 403
                )
        if key_id != access_key_id or terminator != "aws4_request":
            raise ApiError(
                "UnrecognizedClientException",
                f"The security token included in the request is invalid: access key '{key_id}' is not this server's. "
                "`make -s local-env` prints the right environment.",
                403,
            )
        if abs(now - signed_at) > MAX_SKEW:
            raise ApiError(
                "InvalidSignatureException",
                f"Signature expired: {timestamp} is more than 15 minutes from {now:%Y%m%dT%H%M%SZ}",
                403,
            )
        return cls(
            scope=f"{date}/{region}/{service}/aws4_request",
            date=date,
            region=region,
            service=service,
            timestamp=timestamp,
            signed_headers=signed_headers,
            signature=signature,
        )

    def verify(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body_sha256: str, *, secret: str
    ) -> None:
        """Raise an ApiError with AWS's code unless the key's holder signed this request.

        `path` and `query` are as sent (still percent-encoded); the digest is hexadecimal.
        """
        canonical = "\n".join(
            [
                method,
                # S3 is the one service that is not double-encoded, and it is served elsewhere.
                urllib.parse.quote(path, safe="/~-._"),
                _canonical_query(query),
                *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in self.signed_headers),
                "",
                ";".join(self.signed_headers),
                body_sha256,
            ]
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{self.timestamp}\n{self.scope}\n{digest}"
        key = _signing_key(secret, self.date, self.region, self.service)
        expected = hmac.digest(key, to_sign.encode(), "sha256").hex()
        if not hmac.compare_digest(expected.encode(), self.signature.encode()):
            raise ApiError(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method.",
                403,
            )


@functools.lru_cache(maxsize=64)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The same for all of a client's requests of a day."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _fields(authorization: str) -> dict[str, str]:
    _, _, rest = authorization.partition(" ")
    pairs = (part.strip().partition("=") for part in rest.split(","))
    return {name: value for name, _, value in pairs}


def _canonical_query(query: str) -> str:
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    encoded = sorted((urllib.parse.quote(k, safe="-_.~"), urllib.parse.quote(v, safe="-_.~")) for k, v in pairs)
    return "&".join(f"{k}={v}" for k, v in encoded)
