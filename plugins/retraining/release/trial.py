"""An endpoint tried with golden images, in every way that clients ask: the answers must be those of batch scoring."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from retraining.release.golden import MAX_BODY_BYTES, Golden, instances, pack

log = logging.getLogger(__name__)


class WrongAnswer(ValueError):
    """The endpoint does not answer as the same model did in batch."""


def try_endpoint(runtime: Any, endpoint: str, golden: Sequence[Golden]) -> dict[str, Any]:
    """Every image as it is and within JSON, then all together; WrongAnswer at the first that is not its class.

    Returns {"image", "expected", "answer", "latency_ms" of the first, "requests"}.
    """
    shown: dict[str, Any] = {}
    asked = 0
    for image in golden:
        ways = [(image.content_type, image.body)]
        if image.text_bytes <= MAX_BODY_BYTES:
            ways.append(("application/json", json.dumps({"image": image.as_text}).encode()))
        else:
            log.warning("%s has %d bytes, too many for JSON; it is sent as it is.", image.entry, len(image.body))
        for kind, body in ways:
            began = time.perf_counter()
            answer = _ask(runtime, endpoint, kind, body)
            latency_ms = 1000 * (time.perf_counter() - began)
            _check(image, kind, answer)
            asked += 1
            first = {"image": image.entry, "expected": image.label, "answer": answer}
            shown = shown or first | {"latency_ms": round(latency_ms, 1)}
    for request in pack(image for image in golden if image.text_bytes <= MAX_BODY_BYTES):
        predictions = _ask(runtime, endpoint, "application/json", instances(request))["predictions"]
        log.info("%d golden images together in one request.", len(request))
        for image, answer in zip(request, predictions, strict=True):
            _check(image, "application/json (instances)", answer)
        asked += 1
    return shown | {"requests": asked}


def _ask(runtime: Any, endpoint: str, content_type: str, body: bytes) -> dict[str, Any]:
    answer = runtime.invoke_endpoint(
        EndpointName=endpoint, ContentType=content_type, Accept="application/json", Body=body
    )
    return dict(json.loads(answer["Body"].read()))


def _check(image: Golden, kind: str, answer: dict[str, Any]) -> None:
    if answer.get("label") != image.label:
        raise WrongAnswer(
            f"The endpoint answers {answer.get('label')!r} for {image.entry}, sent as {kind}; in batch the same model "
            f"answered {image.label!r}, which is right. Real-time and batch serving differ."
        )
