"""ray_app.py, as a replica of Ray Serve would run it: the answers of serve.py, from AWS's Ray Serve containers.

Ray itself is not installed here; a stand-in keeps what `serve.deployment` and `bind` were given.
"""

import asyncio
import importlib
import io
import json
import sys
import types

import numpy as np
import pytest
from starlette.requests import Request

SENT, ATTRIBUTES = "x-amzn-sagemaker-custom-attributes", "model=colors-20261128"


@pytest.fixture
def replica(finished, monkeypatch):
    """The deployment of ray_app.app, its model loaded from a finished training's artifact."""
    ray, serve = types.ModuleType("ray"), types.ModuleType("ray.serve")

    def deployment(**options):
        def wrap(cls):
            cls.options, cls.bind = options, classmethod(lambda cls, *given: (cls, given))
            return cls

        return wrap

    serve.deployment, ray.serve = deployment, serve
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.serve", serve)
    monkeypatch.setenv("SM_MODEL_DIR", str(finished.model_dir))
    monkeypatch.setenv("MODEL_CUSTOM_ATTRIBUTES", ATTRIBUTES)
    monkeypatch.delitem(sys.modules, "ray_app", raising=False)
    cls, given = importlib.import_module("ray_app").app
    assert cls.options["ray_actor_options"]["num_gpus"] in (0, 1)
    return cls(*given)


def ask(replica, body, content_type, accept="application/json"):
    """The answer to one request, as Ray's proxy hands it on."""
    headers = [(b"content-type", content_type.encode()), (b"accept", accept.encode())]

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    return asyncio.run(replica(Request(scope, receive)))


def test_a_replica_answers_as_the_model_server(replica, finished, serve, images):
    client, _ = serve(finished.model_dir, MODEL_CUSTOM_ATTRIBUTES=ATTRIBUTES)
    body = (images / "train/red/0.png").read_bytes()

    def both(accept):
        theirs = client.post("/invocations", content=body, headers={"content-type": "image/png", "accept": accept})
        ours = ask(replica, body, "image/png", accept)
        assert (ours.status_code, ours.headers["content-type"].partition(";")[0]) == (200, accept)
        assert ours.headers[SENT] == theirs.headers[SENT] == ATTRIBUTES
        return ours.body, theirs.content

    ours, theirs = map(json.loads, both("application/json"))
    assert ours["label"] == theirs["label"] == "red"
    # Not to the last bit: the two compute with another number of threads.
    assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)
    ours, theirs = (text.decode().split(",") for text in both("text/csv"))
    assert (ours[0], float(ours[1])) == ("red", pytest.approx(float(theirs[1]), abs=1e-5))
    ours, theirs = (np.load(io.BytesIO(array)) for array in both("application/x-npy"))
    assert np.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status", "code"),
    [
        (b"junk", "image/png", "*/*", 415, "FORMAT"),
        (b"{}", "application/json", "*/*", 400, "JSON_SHAPE"),
        (b"{}", "text/plain", "*/*", 415, "CONTENT_TYPE"),
    ],
)
def test_a_bad_request_is_no_fault_of_the_replica(replica, body, content_type, accept, status, code):
    answer = ask(replica, body, content_type, accept)
    assert answer.status_code == status
    assert f'"error": "{code}"'.encode() in answer.body


def test_an_error_of_a_replica_tells_its_model(replica, images, monkeypatch):
    body = json.loads(ask(replica, b"junk", "image/png").body)
    assert body["answered_by"] == ATTRIBUTES
    monkeypatch.setattr(replica, "model", None)
    answer = ask(replica, (images / "train/red/0.png").read_bytes(), "image/png")
    assert answer.status_code == 500
    assert json.loads(answer.body)["error"] == "INFERENCE_FAILED"
    assert json.loads(answer.body)["answered_by"] == ATTRIBUTES


def test_the_artifact_carries_the_application(finished):
    assert (finished.model_dir / "code" / "ray_app.py").is_file()
