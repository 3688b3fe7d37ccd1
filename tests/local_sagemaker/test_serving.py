"""One model server: what its program is given, and what remains of it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_sagemaker import app
from local_sagemaker.hosting import serving
from local_sagemaker.hosting.serving import ModelServer, ServedModel
from local_sagemaker.jobs.life import JobFailedError
from local_sagemaker.platform import Platform
from local_sagemaker.settings import Settings
from local_sagemaker.state import logs

PING = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""
LOG = ("group", "stream")

Start = Callable[..., ModelServer]


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    (tmp_path / "serve.py").write_text("")
    images = tmp_path / "images.toml"
    images.write_text(f'[[image]]\nmatch = ["*"]\ninterpreter = "{sys.executable}"\nserve = ["serve.py"]\n')
    settings = Settings(
        root=tmp_path / "root", images=images, access_key_id="id", secret_access_key="secret", max_log_bytes=2000
    )
    platform = app.build_platform(settings)
    yield platform
    app.shut_down(platform)


@pytest.fixture
def start(platform: Platform, tmp_path: Path) -> Iterator[Start]:
    started: list[ModelServer] = []

    def start(program: str, environment: dict[str, str] | None = None, isolated: bool = False) -> ModelServer:
        (tmp_path / "serve.py").write_text(program)
        model = ServedModel(name="m", image="any", data=None, environment=environment or {}, network_isolation=isolated)
        server = ModelServer(platform, model, tmp_path / "worker", log=LOG, num_threads=1, nice=0)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop(0.0)


def printed(platform: Platform, server: ModelServer) -> list[str]:
    while server.running():
        time.sleep(0.02)
    server.follow(final=True)
    return [event["message"] for event in platform.logs.read(*LOG)]


def test_program_gets_the_containers_environment(platform: Platform, start: Start, tmp_path: Path) -> None:
    names = ("SAGEMAKER_BASE_DIR", "SM_MODEL_DIR", "SAGEMAKER_SUBMIT_DIRECTORY", "OMP_NUM_THREADS", "AWS_ACCESS_KEY_ID")
    program = f"import os\nfor name in {names}: print(os.environ.get(name))"
    base = tmp_path / "worker/opt/ml"
    lines = printed(platform, start(program, {"SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}))
    assert lines == [str(base), f"{base}/model", f"{base}/model/code", "1", "id"]


def test_isolated_model_gets_no_credentials(platform: Platform, start: Start) -> None:
    lines = printed(platform, start("import os\nprint([n for n in os.environ if 'AWS' in n])", isolated=True))
    assert lines == ["['AWS_REGION']"]


def test_flood_of_output_fills_neither_disk_nor_logs(platform: Platform, start: Start, tmp_path: Path) -> None:
    server = start("import time\nwhile True:\n    print('x' * 99)\n    time.sleep(0.0005)")
    output = tmp_path / "worker/process/output.log"
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        server.follow()
        time.sleep(0.02)
    server.follow()
    assert output.stat().st_size < 20_000
    messages = [event["message"] for event in platform.logs.read(*LOG)]
    assert messages[-1] == "[local_sagemaker] more than 2000 bytes were printed; further output is not kept"
    assert sum(map(len, messages)) < 40_000


def test_stopped_server_leaves_nothing(start: Start, tmp_path: Path) -> None:
    server = start(PING)
    assert serving.await_ping(server, 20, threading.Event())
    server.stop()
    assert not server.running()
    assert not server.ping()
    assert not (tmp_path / "worker").exists()


def test_waiting_for_a_server_ends_with_it(start: Start) -> None:
    with pytest.raises(JobFailedError, match=r"exit code 1\. Last output: no weights"):
        serving.await_ping(start("import sys\nsys.exit('no weights')"), 20, threading.Event())


def test_waiting_for_a_server_can_be_cancelled(start: Start) -> None:
    cancelled = threading.Event()
    cancelled.set()
    assert not serving.await_ping(start("import time\ntime.sleep(60)"), 20, cancelled)


def test_orphan_is_ended_by_its_folder(start: Start, tmp_path: Path) -> None:
    server = start(PING)
    assert serving.await_ping(server, 20, threading.Event())
    serving.end_orphan(tmp_path / "worker")
    deadline = time.monotonic() + 5
    while server.running():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not (tmp_path / "worker").exists()


def test_log_groups_are_sagemakers() -> None:
    assert (logs.ENDPOINTS, logs.TRANSFORM_JOBS) == ("/aws/sagemaker/Endpoints", "/aws/sagemaker/TransformJobs")
