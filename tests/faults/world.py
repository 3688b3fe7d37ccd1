"""Everything outside Airflow, in one process: what the clients' requests meet, and what befalls them."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

from tests.faults.autoscaling import Autoscaling
from tests.faults.clock import Clock
from tests.faults.cloudwatch import CloudWatch
from tests.faults.service import SageMaker
from tests.faults.store import Store
from tests.faults.wire import EXPIRED, SIGNED_AT, VALID_S, Answer, Refusal

BUCKET = "simulated"
INVOCATION_S = 0.1
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
    """SageMaker and its runtime, S3, STS, CloudWatch and Application Auto Scaling, with one clock."""

    def __init__(self, pictures: dict[bytes, str]) -> None:
        self.clock, self.store, self.scaling = Clock(), Store(), Autoscaling()
        self.cloudwatch = CloudWatch(self.clock)
        self.sagemaker = SageMaker(self.clock, self.store, self.cloudwatch, self.scaling, BUCKET, pictures)
        self.pictures = pictures
        self.calls: list[str] = []
        self.signed: list[str] = []
        self.signing: Hook = nothing
        """Called with what is about to be signed, before `before` and whatever the caller still looks at."""
        self.before: Hook = nothing
        self.after: Hook = nothing

    def copy(self) -> World:
        """The same state, untouched by what befalls the original."""
        twin = World(self.pictures)
        twin.clock.now, twin.store.objects = self.clock.now, dict(self.store.objects)
        twin.cloudwatch.alarms = copy.deepcopy(self.cloudwatch.alarms)
        vars(twin.scaling).update(copy.deepcopy(vars(self.scaling)))
        own = ("clock", "store", "cloudwatch", "scaling", "bucket", "pictures")
        state = {k: copy.deepcopy(v) for k, v in vars(self.sagemaker).items() if k not in own}
        vars(twin.sagemaker).update(state)
        return twin

    def sign(self, service: str, operation: str) -> float:
        """When it was done, which a service compares with its own clock."""
        call, number = f"{service}.{operation}", len(self.signed)
        self.signed.append(call)
        self.signing(number, call)
        return self.clock.now

    def answer(self, service: str, operation: str, request: Any) -> Answer:
        """Of one request over the wire."""
        call, number = f"{service}.{operation}", len(self.calls)
        self.calls.append(call)
        self.before(number, call)
        if self.clock.now - float(request.headers[SIGNED_AT]) > VALID_S.get(service, 300):
            raise Refusal(EXPIRED, "Signature expired: it is now earlier than five minutes ago", 403)
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
        self.sagemaker.settle()  # also before an alarm is set off: what has ended is not taken back
        asked = {"cloudwatch": self.cloudwatch, "application-auto-scaling": self.scaling}.get(service, self.sagemaker)
        return Answer(json.dumps(asked.answer(operation, json.loads(body or b"{}"))).encode(), JSON)

    def _invoke(self, url: str, body: bytes) -> Answer:
        name = url.split("/endpoints/")[1].partition("/")[0]
        self.clock.sleep(INVOCATION_S)
        self.sagemaker.settle()
        asked = json.loads(body) if body.startswith(b"{") else {}
        sent = [base64.b64decode(text) for text in asked.get("instances") or [asked["image"]]] if asked else [body]
        says, answers = self.sagemaker.invoke(name, [self.pictures[one] for one in sent])
        document: Any = {"predictions": answers} if "instances" in asked else answers[0]
        headers = {"Content-Type": "application/json", "X-Amzn-SageMaker-Custom-Attributes": says}
        return Answer(json.dumps(document).encode(), headers)


def _bytes(body: Any) -> bytes:
    if hasattr(body, "read"):
        body.seek(0)
        return bytes(body.read())
    return body.encode() if isinstance(body, str) else bytes(body or b"")
