"""Below botocore: requests are answered before they would be sent; its parsing and its retries are the real ones."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.config
from botocore.awsrequest import AWSResponse

from tests.object_store import KEY_ID, REGION, SECRET


@dataclass(frozen=True)
class Answer:
    """What a service sends back."""

    body: bytes
    headers: Mapping[str, str]
    status: int = 200


class Refusal(Exception):
    """An error that a service answers with."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status

    def as_answer(self, service: str) -> Answer:
        if service in ("s3", "sts"):
            error = f"<Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>"
            text = f"<ErrorResponse>{error}</ErrorResponse>" if service == "sts" else error
            return Answer(text.encode(), {"Content-Type": "application/xml"}, self.status)
        document = {"__type": self.code, "message": self.message}
        headers = {"Content-Type": "application/json", "X-Amzn-ErrorType": self.code}
        return Answer(json.dumps(document).encode(), headers, self.status)


#: answer(service, operation, request) of one HTTP request.
Answerer = Callable[[str, str, Any], Answer]
#: sign(service, operation) of one that is about to be signed: the moment of the signature, as epoch seconds.
Signer = Callable[[str, str], float]

SIGNED_AT = "X-Signed-At"
VALID_S = {"s3": 900}
"""How long a signature is taken, where not for five minutes (IAM user guide, "Signature Version 4": S3 allows 15)."""
EXPIRED = "InvalidSignatureException"


class Clients:
    """boto3 clients of which no request leaves the process; made once, for making one takes longer than a run."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.answer: Answerer | None = None
        self.sign: Signer | None = None

    def get(self, service: str) -> Any:
        if service not in self.made:
            client = boto3.client(
                service,
                endpoint_url="http://127.0.0.1:9",
                region_name=REGION,
                aws_access_key_id=KEY_ID,
                aws_secret_access_key=SECRET,
                config=botocore.config.Config(
                    # What nobody reads, and would take half of a run's time.
                    parameter_validation=False,
                    signature_version=botocore.UNSIGNED,
                    user_agent="simulated",
                ),
            )
            name = client.meta.service_model.service_id.hyphenize()
            client.meta.events.register_last(f"before-sign.{name}", self._sign)
            client.meta.events.register_first(f"before-send.{name}", self)
            self.made[service] = client
        return self.made[service]

    def _sign(self, event_name: str, request: Any, **_: Any) -> None:
        """Nothing is signed, which would take half of a run's time; when it would have been is noted."""
        _, service, operation = event_name.split(".")
        assert self.sign is not None
        request.headers[SIGNED_AT] = str(self.sign(service, operation))

    def __call__(self, event_name: str, request: Any, **_: Any) -> AWSResponse:
        _, service, operation = event_name.split(".")
        assert self.answer is not None
        try:
            answer = self.answer(service, operation, request)
        except Refusal as refusal:
            answer = refusal.as_answer(service)
        return AWSResponse(request.url, answer.status, dict(answer.headers), _Raw(answer.body))


class _Raw(io.BytesIO):
    """The body as urllib3 would give it."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()
