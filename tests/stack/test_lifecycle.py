import contextlib
import shutil
import socket
import stat
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from stack import lifecycle, processes
from stack.errors import StackError
from stack.settings import Settings
from tests.object_store import DRAW, is_free


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    while True:
        port = DRAW.randrange(10_240, 19_000)
        found = Settings(
            root=tmp_path, state=tmp_path / ".local", sagemaker_port=port, s3_port=port + 10, airflow_port=port + 20
        )
        if all(is_free(number) for numbers in found.ports().values() for number in numbers):
            return found


def test_a_taken_port_stops_the_start_before_anything_runs(settings: Settings) -> None:
    refusal = pytest.raises(StackError, match=rf"api-server needs port {settings.airflow_port}")
    with socket.create_server(("127.0.0.1", settings.airflow_port)), refusal:
        lifecycle.start(settings, lambda line: None)
    assert processes.all_recorded(lifecycle.run_folder(settings)) == []


def test_a_nearly_full_disk_is_named_before_anything_runs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, 10**9))
    with pytest.raises(StackError, match=r"has 0\.9 GB left; the stack needs at least 2 GB"):
        lifecycle.start(settings, lambda line: None)
    assert processes.all_recorded(lifecycle.run_folder(settings)) == []


def test_a_program_that_ends_at_once_is_quoted_and_the_others_are_stopped(settings: Settings) -> None:
    """The folder holds no local_sagemaker, so that its process ends with Python's own complaint."""
    with pytest.raises(StackError) as failure:
        lifecycle.start(settings, lambda line: None)
    assert "local_sagemaker ended. Its last words:" in str(failure.value)
    assert "No module named" in str(failure.value)
    assert processes.all_recorded(lifecycle.run_folder(settings)) == []
    assert not lifecycle.status(settings, lambda line: None)


def test_stop_without_anything_running_says_so(settings: Settings) -> None:
    said: list[str] = []
    lifecycle.stop(settings, said.append)
    assert said == ["Nothing of this checkout's stack is running."]


def test_a_second_holder_of_a_lock_is_refused_with_the_first_ones_process(settings: Settings) -> None:
    def hold() -> contextlib.AbstractContextManager[None]:
        return lifecycle.only_one(settings, "retrain", "busy in process {holder}")

    with hold(), pytest.raises(StackError, match=r"busy in process \d+"), hold():
        pass
    with hold():
        pass


def test_a_running_stack_is_not_looked_for_on_other_ports(settings: Settings) -> None:
    lifecycle.run_folder(settings).mkdir(parents=True)
    settings.remember_ports()
    lifecycle.require_same_ports(settings)
    moved = replace(settings, airflow_port=settings.airflow_port + 1)
    with pytest.raises(StackError, match=rf"runs with AIRFLOW_PORT={settings.airflow_port}, not {moved.airflow_port}"):
        lifecycle.require_same_ports(moved)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_an_open_state_folder_is_closed(settings: Settings, mode: int) -> None:
    settings.state.mkdir()
    settings.state.chmod(mode)
    lifecycle.make_state_folder(settings)
    assert stat.S_IMODE(settings.state.stat().st_mode) == 0o700
