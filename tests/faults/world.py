"""Everything outside Airflow, in one process: what the clients' requests meet, and what befalls them."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

from tests.faults.clock import Clock
from tests.faults.service import SageMaker
from tests.faults.store import Store
from tests.faults.wire import Answer

BUCKET = "simulated"
JSON = {"Content-Type": "application/x-amz-json-1.1"}
IDENTITY = (
    "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>000000000000</Account>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)
#: before(number, call), after(number, call) of each call of a run; what they raise befalls the caller.
Hook = Callable[[int, str], None]


def nothing(number: int, call: str) -> None:
    """No fault."""


class World:
    """SageMaker, S3, STS and the runtime, with one clock."""

    def __init__(self, pictures: dict[bytes, str]) -> None:
        self.clock, self.store = Clock(), Store()
        self.sagemaker = SageMaker(self.clock, self.store, BUCKET, pictures)
        self.pictures = pictures
        self.calls: list[str] = []
        self.before: Hook = nothing
        self.after: Hook = nothing

    def copy(self) -> World:
        """The same state, untouched by what befalls the original."""
        twin = World(self.pictures)
        twin.clock.now, twin.store.objects = self.clock.now, dict(self.store.objects)
        own = ("clock", "store", "bucket", "pictures")
        state = {k: copy.deepcopy(v) for k, v in vars(self.sagemaker).items() if k not in own}
        vars(twin.sagemaker).update(state)
        return twin

    def answer(self, service: str, operation: str, request: Any) -> Answer:
        """Of one request over the wire."""
        call, number = f"{service}.{operation}", len(self.calls)
        self.calls.append(call)
        self.before(number, call)
        answer = self._answer(service, operation, request)
        self.after(number, call)
        return answer

    def _answer(self, service: str, operation: str, request: Any) -> Answer:
        body = _bytes(request.body)
        if service == "s3":
            return self.store.answer(operation, request.url, request.headers, body)
        if service == "sts":
            return Answer(IDENTITY.encode(), {"Content-Type": "text/xml"})
        if service == "sagemaker-runtime":
            return self._invoke(request.url, body)
        if service == "cloudwatch-logs":
            return Answer(b'{"logStreams": []}', JSON)
        answer = self.sagemaker.answer(operation, json.loads(body or b"{}"))
        return Answer(json.dumps(answer).encode(), JSON)

    def _invoke(self, url: str, body: bytes) -> Answer:
        name = url.split("/endpoints/")[1].partition("/")[0]
        self.sagemaker.settle()
        if not body.startswith(b"{"):
            document: Any = self.sagemaker.invoke(name, [self.pictures[body]])[0]
        else:
            asked = json.loads(body)
            several = asked.get("instances") or [asked["image"]]
            answers = self.sagemaker.invoke(name, [self.pictures[base64.b64decode(text)] for text in several])
            document = {"predictions": answers} if "instances" in asked else answers[0]
        return Answer(json.dumps(document).encode(), {"Content-Type": "application/json"})


def _bytes(body: Any) -> bytes:
    if hasattr(body, "read"):
        body.seek(0)
        return bytes(body.read())
    return body.encode() if isinstance(body, str) else bytes(body or b"")
