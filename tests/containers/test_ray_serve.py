"""An artifact of train.py behind a real Ray Serve, on the versions of AWS's container, started as its entrypoint does.

Run by `make test-containers`, in an environment of its own with Python 3.13.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.waiting import PATIENCE_S, wait_until

ML = Path(__file__).parents[2] / "ml"
COLOURS = {"blue": (20, 20, 230), "green": (20, 230, 20), "red": (230, 20, 20)}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Channels train and validation of squares in three colours, which are the classes."""
    root, noise = tmp_path_factory.mktemp("images"), random.Random(5)
    for channel, count in (("train", 8), ("validation", 3)):
        for name, colour in COLOURS.items():
            (root / channel / name).mkdir(parents=True)
            for number in range(count):
                shade = tuple(min(255, value + noise.randrange(25)) for value in colour)
                Image.new("RGB", (16, 16), shade).save(root / channel / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def artifact(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "model"
    flags = {
        "train-dir": images / "train", "validation-dir": images / "validation", "model-dir": folder, "stem": "small",
        "image-size": 16, "epochs": 5, "batch-size": 4, "seed": 7, "cache-dir": "none",
    }  # fmt: skip
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command, one_thread = [sys.executable, str(ML / "train.py"), *words], os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=one_thread, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def application(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Ray Serve with ray_app:app, its code from the artifact as below /opt/ml/model."""
    folder = tmp_path_factory.mktemp("ray")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config.yaml").write_text(
        f"http_options: {{host: 127.0.0.1, port: {port}}}\n"
        "applications:\n- {name: classifier, import_path: 'ray_app:app', route_prefix: /}\n"
    )
    environment = os.environ | {
        "PYTHONPATH": f"{artifact}:{artifact / 'code'}",
        "SM_MODEL_DIR": str(artifact),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
    }
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.serve.scripts", "run", str(folder / "config.yaml")],
            env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:

            def said() -> str:
                return (folder / "serve.log").read_text()[-3000:]

            def ready() -> bool:
                assert process.poll() is None, said()
                return _ready(client)

            wait_until(ready, said, every_s=0.5)
            yield client
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/routes").json().get("/") == "classifier"
    except (httpx.HTTPError, json.JSONDecodeError):
        return False


@pytest.mark.parametrize("label", COLOURS)
def test_the_application_answers_for_each_class(application: httpx.Client, images: Path, label: str) -> None:
    body = (images / "validation" / label / "0.png").read_bytes()
    answer = application.post("/", content=body, headers={"content-type": "image/png", "accept": "application/json"})
    assert (answer.status_code, answer.json()["label"]) == (200, label)


def test_accept_chooses_the_form_of_the_answer(application: httpx.Client, images: Path) -> None:
    body = (images / "validation/red/0.png").read_bytes()
    answer = application.post("/", content=body, headers={"content-type": "application/x-image", "accept": "text/csv"})
    assert answer.text.startswith("red,")


def test_bad_requests_are_the_callers(application: httpx.Client) -> None:
    answer = application.post("/", content=b"junk", headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["error"]) == (415, "FORMAT")
