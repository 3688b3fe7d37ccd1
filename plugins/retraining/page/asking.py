"""One question to an endpoint for a person who waits: its answer as a few numbers, or in words why there is none."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

from retraining.job_kinds import is_missing
from retraining.page.figures import number
from retraining.page.sent import Refusal
from retraining.release.canary import failed_model
from retraining.release.golden import Golden
from retraining.release.questions import JSON, Question

TOP = 5
MAX_TEXT = 300
MODEL = re.compile(r"model=([A-Za-z0-9-]{1,63})")
BUSY = ("ThrottlingException", "TooManyRequestsException", "ServiceUnavailable", "ModelNotReadyException")
NOT_ALLOWED = ("AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "ExpiredTokenException")


def ask(runtime: Any, endpoint: str, pictures: Sequence[Golden], of: int | None = None) -> dict[str, Any]:
    """{"answers", "ms", "model"}; Refusal in words. `of`: the position of a class whose probability is told, too."""
    several = len(pictures) > 1
    kind = JSON if several else pictures[0].content_type
    question = Question(images=tuple(pictures), content_type=kind, is_batch=several)
    began = time.perf_counter()
    try:
        reply = question.ask(runtime, endpoint)
    except ClientError as error:
        raise Refusal(502, in_words(error)) from None
    except (ReadTimeoutError, ConnectTimeoutError):
        raise Refusal(
            504, "The endpoint did not answer in time. It may be starting or overloaded; try again."
        ) from None
    except BotoCoreError as error:
        raise Refusal(502, f"SageMaker cannot be reached ({type(error).__name__}).") from None
    ms = round(1000 * (time.perf_counter() - began), 1)
    return {"answers": _answers(reply.body, several, len(pictures), of), "ms": ms, "model": model_of(reply.attributes)}


def model_of(attributes: str) -> str | None:
    """Which SageMaker Model answered, by its CustomAttributes; None where it does not say."""
    found = MODEL.fullmatch(attributes)
    return found[1] if found else None


def in_words(error: ClientError) -> str:
    """Why an endpoint gave no answer, and what to do."""
    code, said = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code == "ModelError":
        return _model_error(error)
    if is_missing(error) or "not found" in said:
        return "The endpoint does not exist. The next run that is promoted makes it."
    if code in BUSY:
        return f"The endpoint has more requests than it can take now ({code}). Try again in a moment."
    if code in NOT_ALLOWED:
        return f"The credentials of Airflow's API server may not ask it ({code}): they need sagemaker:InvokeEndpoint."
    return f"SageMaker answers {code}: {_short(said)}"


def _model_error(error: ClientError) -> str:
    """What the model server said of itself (ml/server/app.py); of a foreign one, its status."""
    status = error.response.get("OriginalStatusCode", 0)
    try:
        said = json.loads(error.response.get("OriginalMessage", ""))
        detail = _short(f"{said['error']}: {said['detail']}")
    except (LookupError, TypeError, ValueError):
        detail = f"status {status}"
    if status in (429, 503):
        return f"The model is busy, or starting ({detail}). Try again in a moment."
    if status in range(400, 500):
        return f"The model refuses the picture. {detail}"
    whose = model_of(failed_model(error))
    return f"The model{f' {whose}' if whose else ''} failed at it ({detail}). The endpoint's log tells why."


def _answers(body: bytes, several: bool, count: int, of: int | None) -> list[dict[str, Any]]:
    try:
        told = json.loads(body)
        answers = [_answer(one, of) for one in (told["predictions"] if several else [told])]
    except (KeyError, TypeError, ValueError, RecursionError):
        answers = []
    if len(answers) != count:
        raise Refusal(502, "The endpoint answers something that this page does not read: no label with a score.")
    return answers


def _answer(told: Mapping[str, Any], of: int | None) -> dict[str, Any]:
    score = number(told["score"])
    if score is None or not isinstance(told["label"], str):
        raise ValueError
    top = [(str(one["label"]), number(one["score"])) for one in told.get("top", ())[:TOP]]
    answer = {
        "label": told["label"][:MAX_TEXT],
        "index": int(told.get("index", -1)),
        "score": score,
        "top": [{"label": label[:MAX_TEXT], "score": its} for label, its in top if its is not None],
    }
    if of is not None:
        answer["of"] = number(told["probabilities"][of]) if of < len(told["probabilities"]) else None
    return answer


def _short(text: str) -> str:
    return " ".join(text.split())[:MAX_TEXT]
