"""One model server: what its program is given, and what remains of it."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_sagemaker import app
from local_sagemaker.failures import JobFailedError
from local_sagemaker.hosting import model_server
from local_sagemaker.hosting.model_server import ModelServer
from local_sagemaker.hosting.served_model import ServedModel
from local_sagemaker.hosting.variant import Variant
from local_sagemaker.hosting.worker import Worker
from local_sagemaker.platform import Platform
from local_sagemaker.sandbox import disk
from local_sagemaker.settings import Settings
from local_sagemaker.state import logs
from tests.local_sagemaker.test_packages import wheel
from tests.waiting import PATIENCE_S, wait_until

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


@pytest.fixture(params=["auto", "off"])
def isolation(request: pytest.FixtureRequest) -> str:
    """With the isolation that this machine allows, or without any."""
    return str(request.param)


@pytest.fixture
def platform(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Platform]:
    mode = request.getfixturevalue("isolation") if "isolation" in request.fixturenames else "auto"
    (tmp_path / "serve.py").write_text("")
    images = tmp_path / "images.toml"
    images.write_text(f'[[image]]\nmatch = ["*"]\ninterpreter = "{sys.executable}"\nserve = ["serve.py"]\n')
    settings = Settings(
        root=tmp_path / "root",
        images=images,
        access_key_id="id",
        secret_access_key="secret",
        max_log_bytes=2000,
        isolation=mode,
        relax_network_isolation=True,
    )
    platform = app.build_platform(settings)
    yield platform
    platform.close()


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
    wait_until(lambda: not server.running())
    server.follow(final=True)
    return [event["message"] for event in platform.logs.read(*LOG)]


def test_program_gets_the_containers_environment(
    platform: Platform, start: Start, tmp_path: Path, isolation: str
) -> None:
    names = ("SAGEMAKER_BASE_DIR", "SM_MODEL_DIR", "SAGEMAKER_SUBMIT_DIRECTORY", "OMP_NUM_THREADS", "AWS_ACCESS_KEY_ID")
    program = f"import os\nfor name in {names}: print(os.environ.get(name))"
    base = platform.isolation.base(tmp_path / "worker/opt/ml")
    lines = printed(platform, start(program, {"SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}))
    assert lines == [str(base), f"{base}/model", f"{base}/model/code", "1", "id"]


def test_program_gets_the_variables_of_the_contract(platform: Platform, start: Start) -> None:
    """What the platform sets, unless the model's environment says otherwise."""
    program = "import os\nfor name in sorted(os.environ):\n    if 'SAGEMAKER_' in name: print(name, os.environ[name])"
    server = start(program, {"SAGEMAKER_CONTAINER_LOG_LEVEL": "10", "SAGEMAKER_PROGRAM": "inference.py"})
    found = dict(line.split(" ", 1) for line in printed(platform, server))
    assert found.pop("LOCAL_SAGEMAKER_PROCESS")
    assert found.pop("SAGEMAKER_BASE_DIR")
    assert found == {
        "SAGEMAKER_BIND_TO_PORT": str(server.port),
        "SAGEMAKER_CONTAINER_LOG_LEVEL": "10",
        "SAGEMAKER_MULTI_MODEL": "false",
        "SAGEMAKER_PROGRAM": "inference.py",
        "SAGEMAKER_REGION": "us-east-1",
        "SAGEMAKER_SAFE_PORT_RANGE": f"{server.port + 1}-{server.port + 50}",
    }


def test_program_sees_its_model_at_opt_ml_and_cannot_write_it(platform: Platform, start: Start) -> None:
    if not platform.isolation.mounts:
        pytest.skip(f"this machine allows no mounts: {platform.isolation.problem}")
    program = """
import os
print(os.getcwd(), os.path.isdir("/opt/ml/model"))
open("/opt/ml/scratch", "w")
try:
    open("/opt/ml/model/x", "w")
except OSError as error:
    print(error.strerror)
"""
    assert printed(platform, start(program)) == ["/opt/ml True", "Read-only file system"]


@pytest.fixture
def taken_twice(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Ports as they are chosen; somebody takes the first two before a server can."""
    choose, chosen, takers = model_server._free_port, list[int](), list[socket.socket]()

    def choose_and_lose() -> int:
        chosen.append(choose())
        if len(chosen) <= 2:
            takers.append(socket.create_server(("127.0.0.1", chosen[-1])))
        return chosen[-1]

    monkeypatch.setattr(model_server, "_free_port", choose_and_lose)
    yield chosen
    for taker in takers:
        taker.close()


@pytest.mark.parametrize("isolated", [False, True])
def test_a_taken_port_moves_the_server(
    platform: Platform, start: Start, taken_twice: list[int], isolated: bool
) -> None:
    server = start(PING, isolated=isolated)
    assert model_server.await_ping(server, PATIENCE_S, threading.Event())
    assert server.port == taken_twice[2]
    said = [event["message"] for event in platform.logs.read(*LOG)]
    assert sum(f"port {port} was taken by another program" in line for port in taken_twice for line in said) == 2


def test_a_taken_port_fails_no_deployment(platform: Platform, tmp_path: Path, taken_twice: list[int]) -> None:
    (tmp_path / "serve.py").write_text(PING)
    model = ServedModel(name="m", image="any", data=None, environment={}, network_isolation=False)
    variant = Variant(
        name="v", model=model, weight=1.0, instance_count=1, instance_type=None, startup_timeout_s=PATIENCE_S
    )
    worker = Worker(platform, "e", variant, 1, lambda: None)

    def answers() -> bool:
        worker.tend()
        assert worker.failure is None
        return worker.port is not None

    try:
        wait_until(answers)
        assert worker.port == taken_twice[2]
    finally:
        worker.stop(0.0)


def test_isolated_model_serves_without_a_network(platform: Platform, start: Start) -> None:
    if not platform.isolation.networks:
        pytest.skip(f"this machine allows no network namespaces: {platform.isolation.problem}")
    with socket.create_server(("127.0.0.1", 0)) as outside:
        reach = (
            "import socket\ntry:\n"
            f"    socket.create_connection({outside.getsockname()}, 2)\n    print('reached', flush=True)\n"
            "except OSError:\n    print('no way out', flush=True)\n"
        )
        server = start(reach + PING, isolated=True)
        assert model_server.await_ping(server, 20, threading.Event())
        server.follow()
    assert platform.logs.read(*LOG)[0]["message"] == "no way out"
    server.stop()
    assert not server.ping()


def test_waived_network_isolation_is_told_in_the_log(platform: Platform, start: Start, isolation: str) -> None:
    server = start(PING, isolated=True)
    assert model_server.await_ping(server, 20, threading.Event())
    told = [event["message"] for event in platform.logs.read(*LOG) if "EnableNetworkIsolation" in event["message"]]
    assert bool(told) is not platform.isolation.networks


def test_what_the_models_code_requires_is_installed(platform: Platform, start: Start, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    wheel(code, "tinyserved")
    (code / "requirements.txt").write_text("./tinyserved-1.0-py3-none-any.whl")
    program = "import tinyserved, os\nprint(tinyserved.VERSION)"
    assert printed(platform, start(program, {"SAGEMAKER_SUBMIT_DIRECTORY": str(code)}))[-1] == "1.0"


def test_models_code_installs_into_its_server_alone(platform: Platform, start: Start, tmp_path: Path) -> None:
    made = str(wheel(tmp_path, "tinybrought"))
    command = f"[sys.executable, '-m', 'pip', 'install', '-q', '--no-index', {made!r}]"
    server = start(f"import subprocess, sys\nsubprocess.check_call({command})\nimport tinybrought\nprint(tinybrought)")
    assert str(server._folder) in printed(platform, server)[-1]


def test_server_that_fills_the_disk_is_ended_with_the_reason(
    platform: Platform, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(PING)
    assert model_server.await_ping(server, 20, threading.Event())
    (server._folder / "opt/ml/tmp/written").write_bytes(b"x" * 40 * 2**20)
    monkeypatch.setattr(disk, "free_bytes", lambda folder: disk.RESERVED_BYTES - 1)

    def ended() -> bool:
        server.follow()
        return not server.running()

    wait_until(ended)
    assert server.end_reason().startswith("the disk is full: the model server has written 4")


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
    assert model_server.await_ping(server, 20, threading.Event())
    server.stop()
    assert not server.running()
    assert not server.ping()
    assert not (tmp_path / "worker").exists()


def test_waiting_for_a_server_ends_with_it(start: Start) -> None:
    with pytest.raises(JobFailedError, match=r"exit code 1\. Last output: no weights"):
        model_server.await_ping(start("import sys\nsys.exit('no weights')"), 20, threading.Event())


def test_waiting_for_a_server_can_be_cancelled(start: Start) -> None:
    cancelled = threading.Event()
    cancelled.set()
    assert not model_server.await_ping(start("import time\ntime.sleep(60)"), 20, cancelled)


def test_orphan_is_ended_by_its_folder(start: Start, tmp_path: Path) -> None:
    server = start(PING)
    assert model_server.await_ping(server, 20, threading.Event())
    model_server.end_orphan(tmp_path / "worker")
    wait_until(lambda: not server.running())
    assert not (tmp_path / "worker").exists()


def test_log_groups_are_sagemakers() -> None:
    assert (logs.ENDPOINTS, logs.TRANSFORM_JOBS) == ("/aws/sagemaker/Endpoints", "/aws/sagemaker/TransformJobs")
