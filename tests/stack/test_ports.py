import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import ports
from stack.errors import StackError
from stack.settings import Settings


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_listening_port_is_not_free(taken: int) -> None:
    assert not ports.is_free(taken)


def test_a_port_nobody_listens_on_is_free(taken: int) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert ports.is_free(port)


def test_the_refusal_names_port_holder_and_variable(taken: int) -> None:
    with pytest.raises(StackError) as refusal:
        ports.require_free("api-server", [taken], "AIRFLOW_PORT")
    text = str(refusal.value)
    assert f"api-server needs port {taken}" in text
    assert f"process {os.getpid()}" in text
    assert f"make up AIRFLOW_PORT={taken + 100}" in text


def test_ports_follow_their_variables() -> None:
    settings = Settings.from_environment(Path("/repo"), {"S3_PORT": "15000", "AIRFLOW_PORT": " 18080 "})
    assert (settings.s3_port, settings.airflow_port, settings.sagemaker_port) == (15000, 18080, 14330)
    assert settings.ports()["S3_PORT"] == [15000, 15001, 15002, 15003, 15004, 25000, 25001, 25002, 25003, 25004]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"AIRFLOW_PORT": "http"}, "AIRFLOW_PORT=http: a port number is needed"),
        ({"AIRFLOW_PORT": "80"}, "AIRFLOW_PORT=80: a port between 1024 and 65535"),
        ({"S3_PORT": "60000"}, "S3_PORT=60000: a port between 1024 and 55531"),
        ({"AIRFLOW_PORT": "14334"}, "AIRFLOW_PORT=14334 makes two programs use port 14334"),
    ],
)
def test_an_impossible_port_is_refused(environ: dict[str, str], said: str) -> None:
    with pytest.raises(StackError) as refusal:
        Settings.from_environment(Path("/repo"), environ)
    assert said in str(refusal.value)


def test_later_commands_find_the_ports_of_the_running_stack(tmp_path: Path) -> None:
    (tmp_path / ".local" / "run").mkdir(parents=True)
    started = Settings.from_environment(tmp_path, {"AIRFLOW_PORT": "18080"})
    started.remember_ports()
    assert Settings.from_environment(tmp_path, {}).airflow_port == 18080
    assert Settings.from_environment(tmp_path, {"AIRFLOW_PORT": "18081"}).airflow_port == 18081
    started.forget_ports()
    assert Settings.from_environment(tmp_path, {}).airflow_port == 8080
