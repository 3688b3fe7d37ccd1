"""The server's own command line."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local_sagemaker import __main__ as program
from local_sagemaker import app
from local_sagemaker.settings import Settings
from tests.local_sagemaker.harness import REPOSITORY
from tests.waiting import PATIENCE_S

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-m", "local_sagemaker", *arguments],
        cwd=REPOSITORY,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_help_is_its_manual() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert "AWS_ENDPOINT_URL_S3" in result.stdout


def test_operations_are_listed_from_the_code() -> None:
    listed = run("--operations").stdout.split()
    assert {"CreateTrainingJob", "UpdateEndpoint", "GetLogEvents", "GetRole"} <= set(listed)
    assert "CreateDomain" not in listed


def test_answers_in_two_writes_do_not_wait_for_an_acknowledgement() -> None:
    """Whatever the event loop does: uvloop would set the option itself, asyncio does not for such a listener."""
    with program._listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("--port", port, "--root", str(tmp_path), **KEYS)
    assert result.returncode == 1
    assert f"port {port}" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ((), {}, "AWS_ACCESS_KEY_ID is not set"),
        (("--host", "0.0.0.0"), KEYS, "--expose"),
        (("--account", "12"), KEYS, "12 digits"),
        (("--images", "no-such.toml"), KEYS, "no-such.toml"),
        (("--time-scale", "2"), KEYS, "time_scale is 2.0; it must be from 0 to 1"),
        (("--max-instances", "0"), KEYS, "max_instances is 0; it must be at least 1"),
        (("--cores", "0"), KEYS, "cores is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    result = run("--port", "0", "--root", str(tmp_path), *arguments, **environment)
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("held", ["nothing", "state.db"])
def test_open_root_is_closed_to_others(tmp_path: Path, held: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    if held != "nothing":
        (root / held).touch()
    root.chmod(0o755)
    app.build_platform(Settings(root=root, access_key_id="id", secret_access_key="secret")).close()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_root_with_other_files_keeps_its_rights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)
    app.build_platform(Settings(root=tmp_path, access_key_id="id", secret_access_key="secret")).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert "other users can read" in caplog.text and "give --root an empty folder" in caplog.text


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("box", "box")],
)
def test_address_that_is_told_can_be_opened(tmp_path: Path, host: str, address: str) -> None:
    settings = Settings(root=tmp_path, access_key_id="id", secret_access_key="secret", host=host, port=15000)
    assert f"address    http://{address}:15000 " in program.banner(settings, "none")
    assert f"AWS_ENDPOINT_URL=http://{address}:15000\n" in program.banner(settings, "none")
