"""A new model that has a part of an endpoint's requests, asked golden images until it has answered each itself."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from retraining.release.golden import MAX_INSTANCES, Golden
from retraining.release.questions import Question, Reply, WrongAnswer, questions
from retraining.requests.sagemaker import custom_attributes

log = logging.getLogger(__name__)

# How long a canary is asked for. With one answer in ten by the new model, 30 questions need some 300 requests.
MAX_REQUESTS, MAX_SECONDS = 1000, 120
LOOK_SECONDS = 5
MAX_FAILURES, SAID_LETTERS = 3, 500

MISSED: dict[str, Any] = {
    "requests": 0, "answered": {}, "unanswered": {}, "others_failed": 0, "wrong": None, "missed": True,
}  # fmt: skip
"""What is told of an update that baked, and was over before it could be asked."""


def try_canary(
    runtime: Any,
    endpoint: str,
    model: str,
    golden: Sequence[Golden],
    is_baking: Callable[[], bool],
    together: int = MAX_INSTANCES,
) -> dict[str, Any]:
    """Every question until the Model `model`, which has a part of the endpoint's requests, has answered it.

    It ends sooner after 1,000 requests or two minutes, when the deployment no longer bakes, at the first wrong answer
    of the model, or at the third failure that is not the other model's. Up to `together` images go in one request.
    Returns {"requests", "answered": content type → answers of the model, "unanswered": content type → questions left to
    it, "others_failed": how often the other one did, "wrong": what was, else None}. Raises botocore's errors that say
    nothing of the model.
    """
    left = list(questions(golden, together))
    answered = dict.fromkeys((question.way for question in left), 0)
    unanswered = dict(Counter(question.way for question in left))
    found: dict[str, Any] = {"requests": 0, "answered": answered, "unanswered": unanswered}
    found |= {"others_failed": 0, "wrong": None}
    failures = _Failures(model)
    for question in _in_turn(left, _Patience(is_baking)):
        found["requests"] += 1
        try:
            reply = question.ask(runtime, endpoint)
        except runtime.exceptions.ModelError as error:
            wrong = failures.judge(error)
            found["others_failed"] = failures.others
            if wrong:
                return found | {"wrong": wrong}
            continue
        if reply.attributes != custom_attributes(model):
            continue
        if wrong := _problem(question, reply):
            return found | {"wrong": wrong}
        left.remove(question)
        answered[question.way] += 1
        unanswered[question.way] -= 1
    if failures.others:
        log.warning("The model that served before failed at %d golden images, not %s.", failures.others, model)
    if left:
        told = ", ".join(f"{n} of {n + answered[way]} as {way}" for way, n in unanswered.items() if n)
        log.warning("In %d requests %s did not answer %s.", found["requests"], model, told)
    return found


def _problem(question: Question, reply: Reply) -> str:
    """What is wrong with an answer; empty when it is right."""
    try:
        question.check(reply.answer)
    except WrongAnswer as error:
        return str(error)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        said = f"The endpoint answers {reply.body[:200]!r} for {question.images[0].entry}, sent as {question.way}"
        return f"{said}; that is no prediction ({type(error).__name__}: {error})."
    return ""


class _Failures:
    """Requests that ended in a ModelError, by whose it was."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.own = self.unknown = self.others = 0

    def judge(self, error: Any) -> str:
        """What is wrong with the model, when it is enough; empty until then."""
        whose = failed_model(error)
        if whose and whose != custom_attributes(self.model):
            self.others += 1
            return ""
        self.own, self.unknown = self.own + bool(whose), self.unknown + (not whose)
        failures = self.own + self.unknown
        if failures < MAX_FAILURES:
            return ""
        doubt = f" (of {self.unknown} SageMaker does not tell whether the new model did)" if self.unknown else ""
        said = " ".join(str(error).split())[:SAID_LETTERS]
        return f"The endpoint failed at {failures} golden images{doubt}, the last time: {said}"


def failed_model(error: Any) -> str:
    """The CustomAttributes of the model that a ModelError is of; empty where it says nothing of itself.

    SageMaker gives no headers of an answer that was no success, but its body, where ml/server/app.py repeats them. A
    process that died, or that took too long, wrote none.
    """
    try:
        return str(json.loads(error.response.get("OriginalMessage", ""))["answered_by"])
    except (LookupError, TypeError, ValueError):
        return ""


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
