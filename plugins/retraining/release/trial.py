"""An endpoint tried with golden images, in every way that clients ask: the answers must be those of batch scoring."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retraining.release.golden import MAX_BODY_BYTES, Golden, instances, pack
from retraining.requests.sagemaker import custom_attributes

log = logging.getLogger(__name__)

# How long a canary is asked for. With one answer in ten by the new model, 11 questions need some 300 requests.
MAX_REQUESTS, MAX_SECONDS = 1000, 120
LOOK_SECONDS = 5
MAX_FAILURES, SAID_LETTERS = 3, 500


class WrongAnswer(ValueError):
    """The endpoint does not answer as the same model did in batch."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request: an image as it is or within JSON, or several images together."""

    images: tuple[Golden, ...]
    content_type: str
    is_batch: bool = False

    @property
    def body(self) -> bytes:
        if self.is_batch:
            return instances(self.images)
        (image,) = self.images
        return image.body if self.content_type != JSON else json.dumps({"image": image.as_text}).encode()

    @property
    def way(self) -> str:
        return f"{self.content_type} (instances)" if self.is_batch else self.content_type

    def ask(self, runtime: Any, endpoint: str) -> Reply:
        sent = runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType=self.content_type, Accept=JSON, Body=self.body
        )
        return Reply(sent["Body"].read(), sent.get("CustomAttributes", ""))

    def check(self, answer: Mapping[str, Any]) -> None:
        """WrongAnswer unless each image was taken for what it is."""
        answers = answer["predictions"] if self.is_batch else [answer]
        for image, its in zip(self.images, answers, strict=True):
            if its.get("label") != image.label:
                raise WrongAnswer(
                    f"The endpoint answers {its.get('label')!r} for {image.entry}, sent as {self.way}; in batch the "
                    f"same model answered {image.label!r}, which is right. Real-time and batch serving differ."
                )


@dataclass(frozen=True)
class Reply:
    """An answer, and what its model says of itself."""

    body: bytes
    attributes: str

    @property
    def answer(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


JSON = "application/json"


def questions(golden: Sequence[Golden]) -> Iterator[Question]:
    """Every image as it is and within JSON, then all together in as few requests as hold them."""
    for image in golden:
        yield Question(images=(image,), content_type=image.content_type)
        if image.text_bytes <= MAX_BODY_BYTES:
            yield Question(images=(image,), content_type=JSON)
        else:
            log.warning("%s has %d bytes, too many for JSON; it is sent as it is.", image.entry, len(image.body))
    for together in pack(image for image in golden if image.text_bytes <= MAX_BODY_BYTES):
        log.info("%d golden images together in one request.", len(together))
        yield Question(images=tuple(together), content_type=JSON, is_batch=True)


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


def try_canary(
    runtime: Any, endpoint: str, model: str, golden: Sequence[Golden], is_baking: Callable[[], bool]
) -> dict[str, Any]:
    """Every question until the Model `model`, which has a part of the endpoint's requests, has answered it.

    It ends sooner after 1,000 requests or two minutes, when the deployment no longer bakes, at the first wrong answer
    of the model, or at the third failure. Returns {"requests", "answered": content type → answers of the model,
    "wrong": what was, else None}. Raises botocore's errors that say nothing of the model.
    """
    left = list(questions(golden))
    answered = dict.fromkeys((question.way for question in left), 0)
    found: dict[str, Any] = {"requests": 0, "answered": answered, "wrong": None}
    failures = 0
    for question in _in_turn(left, _Patience(is_baking)):
        found["requests"] += 1
        try:
            reply = question.ask(runtime, endpoint)
        except runtime.exceptions.ModelError as error:
            failures += 1
            if failures == MAX_FAILURES:
                said = " ".join(str(error).split())[:SAID_LETTERS]
                return found | {"wrong": f"The endpoint failed at {failures} golden images, the last time: {said}"}
            continue
        if reply.attributes != custom_attributes(model):
            continue
        try:
            question.check(reply.answer)
        except WrongAnswer as error:
            return found | {"wrong": str(error)}
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            said = f"The endpoint answers {reply.body[:200]!r} for {question.images[0].entry}, sent as {question.way}"
            return found | {"wrong": f"{said}; that is no prediction ({type(error).__name__}: {error})."}
        left.remove(question)
        answered[question.way] += 1
    if unseen := [way for way, count in answered.items() if not count]:
        log.warning("In %d requests %s did not answer: %s.", found["requests"], model, ", ".join(unseen))
    return found


def _in_turn(left: list[Question], patience: Callable[[], bool]) -> Iterable[Question]:
    """Round after round what is left at its beginning, as long as there is patience."""
    while left:
        for question in list(left):
            if not patience():
                return
            yield question


class _Patience:
    """Whether to go on; asked before each request, and asks for the deployment only now and then."""

    def __init__(self, is_baking: Callable[[], bool]) -> None:
        self._is_baking = is_baking
        self._left = MAX_REQUESTS
        self._ends = time.monotonic() + MAX_SECONDS
        self._looked = time.monotonic()

    def __call__(self) -> bool:
        self._left -= 1
        now = time.monotonic()
        if self._left < 0 or now >= self._ends:
            return False
        if now - self._looked < LOOK_SECONDS:
            return True
        self._looked = now
        return self._is_baking()
