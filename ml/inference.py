"""How a SageMaker endpoint or batch transform answers with an artifact of train.py.

Requests: an image (image/jpeg, image/png, or application/x-image for either), or JSON with base64 images:
{"image": "…"} or {"instances": ["…", …]}. The answer is JSON; see `answer`. A bad request raises RequestError.
Plain functions with the names that SageMaker's containers look for; serve.py calls them on a laptop.
"""

import base64
import binascii
import json
import math

import torch

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


def input_fn(body, content_type):
    """-> (list of upright RGB images, whether the caller sent a list)."""
    kind = (content_type or "").split(";")[0].strip().lower()
    if kind in IMAGE_TYPES:
        return decode_all([body]), False
    if kind == "application/json":
        texts, is_list = images_of(parse_json(body))
        return decode_all([decode_base64(text) for text in texts]), is_list
    accepted = ", ".join(("application/json", *IMAGE_TYPES))
    raise RequestError(415, "CONTENT_TYPE", f"content type {kind[:80]!r} is not accepted; send one of {accepted}")


def predict_fn(request, network):
    images, is_list = request
    size = network.description["image_size"]
    pixels = torch.stack([torch.tensor(data.to_pixels(image, size)) for image in images])
    answers = [answer(row, network.description["classes"]) for row in predict(network, pixels).tolist()]
    return {"predictions": answers} if is_list else answers[0]


def output_fn(prediction, accept):
    wanted = (accept or "*/*").lower()
    if not any(kind in wanted for kind in ("application/json", "application/*", "*/*")):
        raise RequestError(406, "ACCEPT", f"answers are application/json; {accept[:80]!r} is not available")
    return json.dumps(prediction), "application/json"


def predict(network, pixels):
    """uint8 (N, H, W, 3) -> class probabilities (N, classes)."""
    description = network.description
    with torch.inference_mode():
        return model.probabilities(network(data.normalise(pixels, description["mean"], description["std"])))


def answer(probabilities, classes):
    if not all(map(math.isfinite, probabilities)):
        raise RequestError(503, "MODEL_NONFINITE", "the model computed no finite probabilities; it must not be served")
    order = sorted(range(len(classes)), key=lambda i: -probabilities[i])
    return {
        "label": classes[order[0]],
        "index": order[0],
        "score": probabilities[order[0]],
        "top": [{"label": classes[i], "score": probabilities[i]} for i in order[:TOP]],
        "probabilities": probabilities,
    }


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
