"""An endpoint tried with golden images, in every way that clients ask: the answers must be those of batch scoring."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from retraining.release.golden import Golden
from retraining.release.questions import questions


def try_endpoint(runtime: Any, endpoint: str, golden: Sequence[Golden]) -> dict[str, Any]:
    """Every question once; WrongAnswer at the first that is answered with another class.

    Returns {"image", "expected", "answer", "latency_ms" of the first, "requests"}.
    """
    shown: dict[str, Any] = {}
    asked = 0
    for question in questions(golden):
        began = time.perf_counter()
        answer = question.ask(runtime, endpoint).answer
        latency_ms = 1000 * (time.perf_counter() - began)
        question.check(answer)
        asked += 1
        image = question.images[0]
        first = {"image": image.entry, "expected": image.label, "answer": answer}
        shown = shown or first | {"latency_ms": round(latency_ms, 1)}
    return shown | {"requests": asked}
