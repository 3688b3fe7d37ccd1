"""The clients' target, and their programs."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from tests.conformance import target as targets
from tests.conformance.programs import Outcome, Programs
from tests.conformance.target import Target
from tests.conformance.work import Work

# Before anything imports airflow, and only where no other conftest has already done so.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-test-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__PLUGINS_FOLDER", str(Path(__file__).parents[2] / "plugins"))

HERE = Path(__file__).parent
LIMIT_S = 330


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "program(path): the user program that a test is about")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """An endpoint that never gets a job done must not hold up the rest."""
    if HERE not in item.path.parents:
        return (yield)

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not done within {LIMIT_S} s")

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT_S)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("conformance")
    if elsewhere := targets.of_environment(os.environ, folder):
        yield elsewhere
        return
    with targets.local_sagemaker(request.getfixturevalue("s3_endpoint"), folder) as own:
        yield own


@pytest.fixture(scope="session")
def work(target: Target) -> Work:
    return Work.prepare(target)


@pytest.fixture(scope="session", autouse=True)
def programs(
    request: pytest.FixtureRequest, target: Target, work: Work, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Programs]:
    """Autouse: the programs work in the background while the first tests run."""
    marks = [mark for item in request.session.items for mark in item.iter_markers("program")]
    running = Programs({mark.args[0] for mark in marks}, target.environment, tmp_path_factory.mktemp("programs"))
    yield running
    running.stop()


@pytest.fixture
def outcome(request: pytest.FixtureRequest, programs: Programs) -> Outcome:
    mark = request.node.get_closest_marker("program")
    return programs.outcome(mark.args[0])
