"""inference.py as an application of Ray Serve, for AWS's containers ray:serve-ml-sagemaker-*.

Such a container has the artifact's code/ on its path, starts the application that the model's environment names
("ray_app:app") and hands each request of SageMaker on to it, with Content-Type and Accept. serve.py does more for an
endpoint: it computes waiting requests together and says no before it drowns.
"""

from __future__ import annotations

import asyncio
import json
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from ray import serve
from starlette.responses import Response

import inference

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_ONGOING = 16  # requests that one replica decodes and computes at a time; Ray lets the others wait
# Ray hides the GPU of the machine from a replica that has not asked for it.
NUM_GPUS = 1 if Path("/dev/nvidia0").exists() else 0
# As serve.py: what SageMaker hands to the caller, to tell which of two models has answered.
ATTRIBUTES = os.environ.get("MODEL_CUSTOM_ATTRIBUTES", "")
HEADERS = {"x-amzn-sagemaker-custom-attributes": ATTRIBUTES} if ATTRIBUTES else {}


@serve.deployment(max_ongoing_requests=MAX_ONGOING, ray_actor_options={"num_gpus": NUM_GPUS})
class Classifier:
    """One loaded model. A bad request is answered with its status and reason, as serve.py does."""

    def __init__(self, model_dir: str) -> None:
        self.model = inference.model_fn(model_dir)
        inference.model_warmup_fn(model_dir, self.model)

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        content_type, accept = request.headers.get("content-type"), request.headers.get("accept")
        return await asyncio.to_thread(self.answer, body, content_type, accept)

    def answer(self, body: bytes, content_type: str | None, accept: str | None) -> Response:
        try:
            prediction = inference.predict_fn(inference.input_fn(body, content_type), self.model)
            content, kind = inference.output_fn(prediction, accept)
        except inference.RequestError as error:
            return refusal(error.status_code, error.code, error.detail)
        except Exception as error:
            traceback.print_exc()
            return refusal(500, "INFERENCE_FAILED", f"{type(error).__name__}: {error}"[:800])
        return Response(content, media_type=kind, headers=HEADERS)


def refusal(status: int, code: str, detail: str) -> Response:
    """As serve.py words it. SageMaker hands on the body alone, so it tells its model too."""
    signature = {"answered_by": ATTRIBUTES} if ATTRIBUTES else {}
    text = json.dumps({"error": code, "detail": detail, **signature})
    return Response(text, status, media_type="application/json")


app = Classifier.bind(os.environ.get("SM_MODEL_DIR", "/opt/ml/model"))  # type: ignore[attr-defined]  # of the decorator
