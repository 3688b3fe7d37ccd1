"""How a SageMaker endpoint or batch transform answers with an artifact of train.py.

Requests: an image (image/jpeg, image/png, or application/x-image for either); JSON with base64 images, {"image": "…"}
or {"instances": ["…", …]}; or application/x-npy, an array of uint8 pictures (H, W, 3) or (N, H, W, 3), or of float
numbers (N, 3, side, side) that are normalised already, as PyTorch's default functions take them.

Answers, by Accept: application/json (see `answer`; "application/json; logits=1; top=3" adds the logits and asks for
three classes instead of five), text/csv (a line for each image: label, score) or application/x-npy (probabilities
(N, classes); "application/x-npy; logits=1" for logits). A bad request raises RequestError.

Plain functions with the names that SageMaker's containers look for; serve.py calls them on a laptop.
"""

import base64
import binascii
import csv
import io
import json
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

import data
import model

try:  # in AWS's containers only a subclass of this chooses its own HTTP status
    from sagemaker_inference.errors import BaseInferenceToolkitError as ToolkitError
except ImportError:

    class ToolkitError(Exception):
        def __init__(self, status_code, message, phrase):
            super().__init__(message)
            self.status_code, self.message, self.phrase = status_code, message, phrase


IMAGE_TYPES = ("image/jpeg", "image/jpg", "image/png", "application/x-image", "application/octet-stream")
MAX_PIXELS = 25_000_000  # of one request, so that no request costs more than about a second to decode
MAX_INSTANCES = 16
TOP = 5
NPY = "application/x-npy"
ANSWER_TYPES = ("application/json", "text/csv", NPY)
STATUS = {"FORMAT": 415, "TOO_MANY_PIXELS": 413, "TRUNCATED": 422, "UNDECODABLE": 422}


class RequestError(ToolkitError):
    """The request cannot be answered: an HTTP status, a stable upper-case code, and what to do about it."""

    def __init__(self, status_code, code, detail):
        super().__init__(status_code, json.dumps({"error": code, "detail": detail}), code)
        self.code, self.detail = code, detail


def model_fn(model_dir):
    network, description = model.load_artifact(model_dir)
    network.description = description
    return network


def model_warmup_fn(model_dir, network):
    """The first forward pass is slow; let the start pay for it, not the first caller."""
    size = network.description["image_size"]
    predict(network, torch.zeros(1, size, size, 3, dtype=torch.uint8))


@dataclass(frozen=True)
class Prediction:
    """What the network said about a request, before anyone chose a format."""

    logits: torch.Tensor  # (N, outputs)
    classes: list
    is_list: bool
    """Whether the caller sent a list, and gets one."""

    @property
    def probabilities(self):
        return model.probabilities(self.logits)  # (N, classes)


def input_fn(body, content_type):
    """-> (pictures, or an array that is normalised already; whether the caller sent a list)."""
    kind = (content_type or "").split(";")[0].strip().lower()
    if kind in IMAGE_TYPES:
        return decode_all([body]), False
    if kind == "application/json":
        texts, is_list = images_of(parse_json(body))
        return decode_all([decode_base64(text) for text in texts]), is_list
    if kind == NPY:
        return read_array(body)
    accepted = ", ".join(("application/json", NPY, *IMAGE_TYPES))
    raise RequestError(415, "CONTENT_TYPE", f"content type {kind[:80]!r} is not accepted; send one of {accepted}")


def predict_fn(request, network):
    images, is_list = request
    side = network.description["image_size"]
    if isinstance(images, torch.Tensor):
        if images.shape[1:] != (3, side, side):
            wanted = f"(N, 3, {side}, {side})"
            raise RequestError(
                400, "ARRAY_SHAPE", f"normalised images of this model are {wanted}, not {list(images.shape)}"
            )
        with torch.inference_mode():
            logits = network(images)
    else:
        logits = predict(network, torch.stack([torch.tensor(data.to_pixels(image, side)) for image in images]))
    if not torch.isfinite(logits).all():
        raise RequestError(503, "MODEL_NONFINITE", "the model computed no finite numbers; it must not be served")
    return Prediction(logits, network.description["classes"], is_list)


def output_fn(prediction, accept):
    kind, options = answer_format(accept)
    if kind == NPY:
        buffer = io.BytesIO()
        numbers = prediction.logits if options["logits"] else prediction.probabilities
        np.save(buffer, numbers.float().numpy(), allow_pickle=False)
        return buffer.getvalue(), NPY
    answers = [
        answer(probabilities, logits if options["logits"] else None, prediction.classes, options["top"])
        for probabilities, logits in zip(prediction.probabilities.tolist(), prediction.logits.tolist(), strict=True)
    ]
    if kind == "text/csv":
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([entry["label"], f"{entry['score']:.6g}"] for entry in answers)
        return lines.getvalue(), "text/csv"
    return json.dumps({"predictions": answers} if prediction.is_list else answers[0]), "application/json"


def answer_format(accept):
    """The first format of an Accept header that there is, and its options. Raises RequestError when there is none."""
    for entry in (accept or "*/*").lower().split(","):
        kind, *words = (word.strip() for word in entry.split(";"))
        if kind in ("*/*", "application/*"):
            kind = "application/json"
        if kind in ANSWER_TYPES:
            given = dict(word.split("=", 1) for word in words if "=" in word)
            return kind, {"logits": given.get("logits") == "1", "top": whole_number(given.get("top", str(TOP)))}
    raise RequestError(406, "ACCEPT", f"answers are {', '.join(ANSWER_TYPES)}; {str(accept)[:80]!r} is not available")


def whole_number(text):
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= 1000:
        raise RequestError(406, "ACCEPT", f"top={text[:20]!r} in Accept must be a whole number from 1 to 1000")
    return int(text[:6])


def predict(network, pixels):
    """uint8 (N, H, W, 3) -> logits (N, outputs)."""
    description = network.description
    with torch.inference_mode():
        return network(data.normalise(pixels, description["mean"], description["std"]))


def answer(probabilities, logits, classes, top):
    order = sorted(range(len(classes)), key=lambda i: -probabilities[i])
    return {
        "label": classes[order[0]],
        "index": order[0],
        "score": probabilities[order[0]],
        "top": [{"label": classes[i], "score": probabilities[i]} for i in order[:top]],
        "probabilities": probabilities,
        **({} if logits is None else {"logits": logits}),
    }


def read_array(body):
    """An .npy body -> (list of images or a normalised float tensor, whether it held several)."""
    try:
        array = np.load(io.BytesIO(bytes(body)), allow_pickle=False)
    except Exception as error:  # numpy raises nearly everything for strange headers
        raise RequestError(400, "NPY", f"the body is no .npy array: {str(error)[:200]}") from error
    if not isinstance(array, np.ndarray) or array.ndim not in (3, 4) or array.size == 0:
        shape = list(getattr(array, "shape", ()))
        raise RequestError(400, "ARRAY_SHAPE", f"an array must be (H, W, 3), (N, H, W, 3) or (N, 3, H, W), not {shape}")
    several = array.ndim == 4
    batch = array if several else array[None]
    if len(batch) > MAX_INSTANCES:
        raise RequestError(400, "INSTANCES", f"{len(batch)} images; a request holds 1 to {MAX_INSTANCES}")
    if array.dtype == np.uint8 and batch.shape[-1] == 3:
        if batch.size // 3 > MAX_PIXELS:
            raise RequestError(413, "TOO_MANY_PIXELS", f"a request may hold at most {MAX_PIXELS:,} pixels")
        return [Image.fromarray(pixels) for pixels in batch], several
    if array.dtype in (np.float16, np.float32, np.float64) and batch.shape[1] == 3:
        return torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32)), several
    raise RequestError(
        400,
        "ARRAY_SHAPE",
        f"uint8 arrays are (…, H, W, 3), float ones (N, 3, H, W); not {array.dtype} {list(array.shape)}",
    )


def decode_all(bodies):
    """Encoded images -> images, within one budget of pixels for the whole request."""
    images, budget = [], MAX_PIXELS
    for position, body in enumerate(bodies):
        if not body:
            raise RequestError(400, "EMPTY", f"image {position} is empty")
        try:
            images.append(data.decode(bytes(body), budget))
        except data.BadImage as error:
            raise RequestError(STATUS[error.code], error.code, f"image {position}: {error}") from error
        budget -= images[-1].width * images[-1].height
    return images


def images_of(document):
    """The base64 texts of a JSON request, and whether they came as a list."""
    if isinstance(document, dict) and set(document) == {"image"}:
        return [document["image"]], False
    if isinstance(document, dict) and set(document) == {"instances"} and isinstance(document["instances"], list):
        texts = document["instances"]
        if not 1 <= len(texts) <= MAX_INSTANCES:
            raise RequestError(400, "INSTANCES", f"{len(texts)} instances; a request holds 1 to {MAX_INSTANCES}")
        return texts, True
    raise RequestError(400, "JSON_SHAPE", 'expected {"image": "<base64>"} or {"instances": ["<base64>", …]}')


def parse_json(body):
    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    try:
        text = body if isinstance(body, str) else bytes(body).decode("utf-8")
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "JSON", f"the body is not valid JSON: {str(error)[:200]}") from error


def decode_base64(text):
    if not isinstance(text, str):
        raise RequestError(400, "BASE64", f"an image must be base64 text, not {type(text).__name__}")
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise RequestError(400, "BASE64", f"not plain base64 ({error}); no data: prefix, no line breaks") from error
