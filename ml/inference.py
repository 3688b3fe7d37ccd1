"""How a SageMaker endpoint or batch transform answers with an artifact of train.py.

Requests: an image (image/jpeg, png, webp, gif, bmp, tiff, or application/x-image for any); JSON with base64 images,
{"image": "…"} or {"instances": ["…", …]}, or with an address, {"url": "https://…"} (off until hosts are named, see
pictures/remote.py); or application/x-npy, an array of uint8 pictures (H, W, 3) or (N, H, W, 3), or of float numbers
(N, 3, side, side) that are normalised already, as PyTorch's default functions take them.

Answers, by Accept: application/json (see `answer`; "application/json; logits=1; top=3" adds the logits and asks for
three classes instead of five), text/csv (a line for each image: label, score) or application/x-npy (probabilities
(N, classes); "application/x-npy; logits=1" for logits). A bad request raises RequestError.

Plain functions with the names that SageMaker's containers look for; serve.py calls them on a laptop, and
predict_batch_fn when requests wait.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from network import runtime
from pictures.request import NPY, Request, normalised_already, read_request
from pictures.request import RequestError as RequestError  # servers find it here

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

TOGETHER = 32  # images that go through the network at once, which bounds the memory a pass takes
TOP = 5
ANSWER_TYPES = ("application/json", "text/csv", NPY)


# What model_fn finds out and input_fn is not told. The containers load one model into a process; where another one is
# asked for a prediction all the same, predict_fn decodes again.
side_of_model: int | None = None


def model_fn(model_dir: str) -> runtime.Model:
    global side_of_model
    model = runtime.load(model_dir)
    side_of_model = model.side
    return model


def model_warmup_fn(model_dir: str, model: runtime.Model) -> None:
    """The first forward pass is slow; let the start pay for it, not the first caller."""
    model.predict(np.zeros((1, model.side, model.side, 3), np.uint8))


class Options(TypedDict):
    """What an Accept header asks for beside a format."""

    logits: bool
    top: int


@dataclass(frozen=True)
class Prediction:
    """What the network said about a request, before anyone chose a format."""

    logits: NDArray[np.float32]  # (N, outputs)
    classes: list[str]
    is_list: bool

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """(N, classes); a binary head has one logit, for the second of two classes."""
        logits = self.logits
        if logits.shape[1] == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        powers = np.exp(logits - logits.max(1, keepdims=True))
        shares: NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
        return shares


def input_fn(body: bytes | bytearray, content_type: str | None) -> Request:
    request = read_request(body, content_type)
    return request if side_of_model is None else request.decoded(side_of_model)


def predict_fn(request: Request, model: runtime.Model) -> Prediction:
    (prediction,) = predict_batch_fn([request], model)
    if isinstance(prediction, RequestError):
        raise prediction
    return prediction


def predict_batch_fn(requests: Sequence[Request], model: runtime.Model) -> list[Prediction | RequestError]:
    """Several requests in one pass through the network -> for each a Prediction, or the RequestError it deserves."""
    batches = [network_input(request, model) for request in requests]
    good = [batch for batch in batches if not isinstance(batch, RequestError)]
    if not good:
        return [batch for batch in batches if isinstance(batch, RequestError)]
    images = good[0] if len(good) == 1 else np.concatenate(good)
    parts = [model.runtime.logits(images[at : at + TOGETHER]) for at in range(0, len(images), TOGETHER)]
    answers: list[Prediction | RequestError] = []
    logits, at = np.concatenate(parts), 0
    for request, batch in zip(requests, batches, strict=True):
        if isinstance(batch, RequestError):
            answers.append(batch)
            continue
        answers.append(believed(logits[at : at + len(batch)], request, model))
        at += len(batch)
    return answers


def network_input(request: Request, model: runtime.Model) -> NDArray[np.float32] | RequestError:
    """Normalised images (N, 3, side, side), or the RequestError that says why there are none."""
    try:
        if isinstance(request.images, np.ndarray):
            return normalised_already(request.images, model.side)
        pixels = request.decoded(model.side).pixels
        assert pixels is not None
        return model.normalise(pixels)
    except RequestError as error:
        return error


def believed(logits: NDArray[np.float32], request: Request, model: runtime.Model) -> Prediction | RequestError:
    if not np.isfinite(logits).all():
        return RequestError(503, "MODEL_NONFINITE", "the model computed no finite numbers; it must not be served")
    return Prediction(logits, model.description["classes"], request.is_list)


def output_fn(prediction: Prediction, accept: str | None) -> tuple[bytes | str, str]:
    kind, options = answer_format(accept)
    if kind == NPY:
        buffer = io.BytesIO()
        numbers = prediction.logits if options["logits"] else prediction.probabilities
        np.save(buffer, numbers, allow_pickle=False)
        return buffer.getvalue(), NPY
    answers = [
        answer(probabilities, logits if options["logits"] else None, prediction.classes, options["top"])
        for probabilities, logits in zip(prediction.probabilities.tolist(), prediction.logits.tolist(), strict=True)
    ]
    if kind == "text/csv":
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([entry["label"], f"{entry['score']:.6g}"] for entry in answers)
        return lines.getvalue(), "text/csv"
    document = {"predictions": answers} if prediction.is_list else answers[0]
    return json.dumps(document, allow_nan=False), "application/json"


def answer_format(accept: str | None) -> tuple[str, Options]:
    """The first format of an Accept header that there is, and its options. Raises RequestError when there is none."""
    for entry in (accept or "*/*").lower().split(","):
        kind, *words = (word.strip() for word in entry.split(";"))
        if kind in ("*/*", "application/*"):
            kind = "application/json"
        if kind in ANSWER_TYPES:
            given = dict(word.split("=", 1) for word in words if "=" in word)
            return kind, {"logits": given.get("logits") == "1", "top": whole_number(given.get("top", str(TOP)))}
    raise RequestError(406, "ACCEPT", f"answers are {', '.join(ANSWER_TYPES)}; {str(accept)[:80]!r} is not available")


def whole_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= 1000:
        raise RequestError(406, "ACCEPT", f"top={text[:20]!r} in Accept must be a whole number from 1 to 1000")
    return int(text[:6])


def answer(probabilities: list[float], logits: list[float] | None, classes: Sequence[str], top: int) -> dict[str, Any]:
    order = sorted(range(len(classes)), key=lambda i: -probabilities[i])
    return {
        "label": classes[order[0]],
        "index": order[0],
        "score": probabilities[order[0]],
        "top": [{"label": classes[i], "score": probabilities[i]} for i in order[:top]],
        "probabilities": probabilities,
        **({} if logits is None else {"logits": logits}),
    }
