"""Of a request that failed SageMaker hands on the body alone: the server writes there which model it was."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from botocore.exceptions import ClientError

from retraining.release.canary import failed_model
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
REFUSED = """
from argparse import Namespace
from server.app import ModelServer
limits = dict(workers=1, timeout_s=1, max_payload_bytes=1, max_answer_bytes=1)
print(ModelServer(None, Namespace(custom_attributes="model=one", **limits)).refusal(500, "BUG", "bug").body.decode())
"""


def test_an_error_of_serve_py_names_its_model() -> None:
    command = [str(ROOT / ".venv/ml/bin/python"), "-c", REFUSED]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "ml")}
    body = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    error = ClientError({"Error": {"Code": "ModelError"}}, "InvokeEndpoint")
    assert failed_model(error) == ""
    error.response["OriginalMessage"] = body.stdout  # type: ignore[typeddict-unknown-key]
    assert failed_model(error) == "model=one"
