"""Airflow's own API server, in this process, with this package's plugin."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before anything imports airflow, and only where no other conftest has already done so.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-test-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__PLUGINS_FOLDER", str(Path(__file__).parents[2] / "plugins"))


@pytest.fixture(scope="session")
def airflow() -> Iterator[Any]:
    """A client of it. Its database has one run each of `retrain_digits` and of somebody else's DAG."""
    from airflow import settings
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    from tests import airflow_database

    home = Path(settings.AIRFLOW_HOME)
    if not (home / airflow_database.NAME).exists():
        airflow_database.make(home)
    _add_runs()
    with TestClient(create_app(apps="core"), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(autouse=True)
def own_clients() -> Iterator[None]:
    """Each test says in its environment where AWS is."""
    from retraining.page.clients import forget_clients

    forget_clients()
    yield
    forget_clients()


@pytest.fixture(scope="session")
def viewer(airflow: Any) -> dict[str, str]:
    """The headers of somebody who may look."""
    return {"Authorization": f"Bearer {token_of('viewer')}"}


@pytest.fixture(scope="session")
def user(airflow: Any) -> dict[str, str]:
    """The headers of somebody who may trigger runs."""
    return {"Authorization": f"Bearer {token_of('user')}"}


def token_of(role: str | None) -> str:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return str(get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="ada", role=role)))


def _add_runs() -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunType

    from tests.page.runs import BEGAN

    with create_session() as session:
        for dag_id in ("retrain_digits", "somebody_elses"):
            if not session.query(DagRun).filter_by(dag_id=dag_id).first():
                run = DagRun(dag_id=dag_id, run_id="manual__1", run_after=BEGAN, run_type=DagRunType.MANUAL)
                session.add(run)
